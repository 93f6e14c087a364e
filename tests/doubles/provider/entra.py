"""Microsoft Entra as workloads meet it: a managed identity's address, and the exchange of tokens."""

import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import jwt

TENANT = "4c1b5c5e-7c8e-4f0e-9d53-2f0a8e4a7a11"
CLIENT = "9b1e6a57-0d2f-4a39-8f51-6d6f1f9f2c22"
SCOPE = "https://cognitiveservices.azure.com/.default"
IDENTITY_PATH = "/msi/token"
"""Where an app's managed identity gets its tokens, which the app's environment names."""
EXCHANGE_PATH = f"/{TENANT}/oauth2/v2.0/token"
_AUDIENCE = "api://AzureADTokenExchange"
_BY_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

Answer = tuple[int, dict[str, Any]]


class Entra:
    """Gives tokens out, and knows them again."""

    def __init__(self) -> None:
        self._key = secrets.token_hex(32)
        self._tokens: set[str] = set()
        self.identity_secret = secrets.token_urlsafe()
        """What proves to the managed identity's address that it is the app who asks."""
        self.token_s = 3599
        """How long a token is said to be good."""
        self.tokens_given = 0

    @property
    def tokens(self) -> frozenset[str]:
        return frozenset(self._tokens)

    def environment(self, url: str) -> dict[str, str]:
        """The variables of an app with a managed identity, for a double at this address."""
        return {"IDENTITY_ENDPOINT": f"{url}{IDENTITY_PATH}", "IDENTITY_HEADER": self.identity_secret}

    def federated_token(self) -> str:
        """What a cluster writes into a pod, for Entra to trust; signed here, and by nobody else."""
        claims = {"aud": _AUDIENCE, "sub": "system:serviceaccount:quartet:router", "exp": time.time() + 600}
        return jwt.encode(claims, self._key, "HS256")

    def give_to_app(self, headers: Mapping[str, str], query: Mapping[str, str]) -> Answer:
        """A managed identity's token."""
        if headers.get("x-identity-header") != self.identity_secret:
            return 401, {"statusCode": 401, "message": "The identity header is wrong."}
        if query.get("resource") != SCOPE.removesuffix("/.default"):
            return 400, {"statusCode": 400, "message": f"There is no resource {query.get('resource')}."}
        end = str(int(time.time()) + self.token_s)
        return 200, {"access_token": self._give(), "expires_on": end, "token_type": "Bearer"}

    def give_to_workload(self, form: bytes) -> Answer:
        """A token in exchange for a federated one, by RFC 7523."""
        fields = {name: values[0] for name, values in parse_qs(form.decode()).items()}
        try:
            jwt.decode(fields.pop("client_assertion", ""), self._key, ["HS256"], audience=_AUDIENCE)
        except jwt.InvalidTokenError:
            refusal = "AADSTS700211: No matching federated identity record found."
            return 401, {"error": "invalid_client", "error_description": refusal}
        wanted = {
            "client_assertion_type": _BY_ASSERTION,
            "client_id": CLIENT,
            "grant_type": "client_credentials",
            "scope": SCOPE,
        }
        if wanted.items() - fields.items():
            return 400, {"error": "invalid_request", "error_description": "AADSTS900144: It misses a field."}
        return 200, {"access_token": self._give(), "expires_in": self.token_s, "token_type": "Bearer"}

    def _give(self) -> str:
        token = secrets.token_urlsafe()
        self._tokens.add(token)
        self.tokens_given += 1
        return token
