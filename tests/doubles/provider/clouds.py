"""The vendors' models behind other vendors' doors: Azure, Amazon Bedrock, Google Vertex.

Paths, credentials and bodies are what the clouds document; behind the door is the vendor's own.
"""

import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, unquote

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.doubles.provider import sigv4
from tests.doubles.provider.cloud_wires import AzureWire, BedrockWire, VertexWire
from tests.doubles.provider.entra import Entra
from tests.doubles.provider.ledger import RecordedRequest
from tests.doubles.provider.wire import Wire

AZURE_KEY = "azure-key"
AZURE_VERSION = "2025-04-01-preview"
AWS_REGION = "eu-central-1"
AWS_ACCESS_KEY = "AKIAQUARTETDOUBLE"
AWS_SECRET_KEY = "aws+secret/key"
AWS_SESSION_TOKEN = "aws-session-token"
BEDROCK_API_KEY = "bedrock-api-key"
GOOGLE_REGION = "europe-west1"
GOOGLE_PROJECT = "quartet-double"
GOOGLE_ACCOUNT = "router@quartet-double.iam.gserviceaccount.com"
TOKEN_PATH = "/token"
_AUDIENCE = "https://oauth2.googleapis.com/token"

_AZURE = re.compile(r"/openai/deployments/(?P<model>[^/]+)(?P<endpoint>/chat/completions|/embeddings)")
_BEDROCK = re.compile(r"/model/(?P<model>.+)/invoke(?P<stream>-with-response-stream)?")
_VERTEX = re.compile(
    r"/v1/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)"
    r"/publishers/anthropic/models/(?P<model>[^/:]+):(?P<method>rawPredict|streamRawPredict)"
)
_MESSAGES = "/v1/messages"
_BEHIND = {"x-api-key": "the cloud's own"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A request at a cloud's door: as its vendor would have got it, or refused."""

    request: RecordedRequest
    refusal: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A cloud's way in to one vendor's format."""

    wire: Wire
    enter: Callable[[RecordedRequest, str, bytes], Entry]


class Clouds:
    """The doors, and the tokens that Google's has given out."""

    def __init__(self) -> None:
        self._tokens: set[str] = set()
        self._doors = (
            (_AZURE, Door(wire=AzureWire(), enter=self._enter_azure)),
            (_BEDROCK, Door(wire=BedrockWire(), enter=self._enter_bedrock)),
            (_VERTEX, Door(wire=VertexWire(), enter=self._enter_vertex)),
        )
        self.entra = Entra()
        self.tokens_given = 0
        self.token_s = 3599
        """How long a token of Google's is said to be good."""

    def find(self, path: str) -> Door | None:
        """The door at a path."""
        return next((door for pattern, door in self._doors if pattern.fullmatch(path)), None)

    def service_account(self, url: str) -> str:
        """The key of an account, as the JSON that Google gives out, for a double at this address."""
        private = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return json.dumps(
            {
                "type": "service_account",
                "project_id": GOOGLE_PROJECT,
                "private_key_id": "1",
                "private_key": private.decode(),
                "client_email": GOOGLE_ACCOUNT,
                "client_id": "1",
                "token_uri": f"{url}{TOKEN_PATH}",
            }
        )

    def give_token(self, form: bytes) -> dict[str, Any] | None:
        """An access token for a signed assertion, by RFC 7523; None where the signature is wrong."""
        fields = parse_qs(form.decode())
        try:
            claims = jwt.decode(fields["assertion"][0], self._key.public_key(), ["RS256"], audience=_AUDIENCE)
        except (KeyError, jwt.InvalidTokenError):
            return None
        if claims["iss"] != GOOGLE_ACCOUNT or "cloud-platform" not in claims["scope"]:
            return None
        token = secrets.token_urlsafe()
        self._tokens.add(token)
        self.tokens_given += 1
        return {"access_token": token, "expires_in": self.token_s, "token_type": "Bearer"}

    def accept_token(self, token: str) -> None:
        """Lets a token in that was not given out here."""
        self._tokens.add(token)

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(65537, 2048)

    def _enter_azure(self, request: RecordedRequest, raw_path: str, raw: bytes) -> Entry:
        path, _, query = raw_path.partition("?")
        found = _match(_AZURE, path)
        meant = replace(
            request,
            endpoint=f"/v1{found['endpoint']}",
            model=found["model"],
            headers={**request.headers, **_BEHIND},
            body={**request.body, "model": found["model"]},
        )
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self.entra.tokens and request.headers.get("api-key") != AZURE_KEY:
            return Entry(request=meant, refusal=(401, "Access denied due to invalid subscription key."))
        if parse_qs(query).get("api-version") != [AZURE_VERSION]:
            return Entry(request=meant, refusal=(404, "Resource not found"))
        return Entry(request=meant)

    def _enter_bedrock(self, request: RecordedRequest, raw_path: str, raw: bytes) -> Entry:
        found = _match(_BEDROCK, raw_path)
        meant = _unpack(request, found["model"], stream=found["stream"] is not None)
        if "stream" in request.body:
            return Entry(request=meant, refusal=(400, "stream: Extra inputs are not permitted"))
        if request.headers.get("authorization") == f"Bearer {BEDROCK_API_KEY}":
            return Entry(request=meant, refusal=_misplaced(request.body))
        wrong = sigv4.objection(
            request.method,
            raw_path,
            request.headers,
            raw,
            access_key=AWS_ACCESS_KEY,
            secret_key=AWS_SECRET_KEY,
            scope=(AWS_REGION, "bedrock"),
        )
        if not wrong and request.headers.get("x-amz-security-token", AWS_SESSION_TOKEN) != AWS_SESSION_TOKEN:
            wrong = "The security token included in the request is expired"
        return Entry(request=meant, refusal=(403, wrong) if wrong else _misplaced(request.body))

    def _enter_vertex(self, request: RecordedRequest, raw_path: str, raw: bytes) -> Entry:
        found = _match(_VERTEX, raw_path)
        is_streamed = found["method"] == "streamRawPredict"
        meant = _unpack(request, found["model"], stream=is_streamed)
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in self._tokens:
            return Entry(request=meant, refusal=(401, "Request had invalid authentication credentials."))
        if (found["project"], found["region"]) != (GOOGLE_PROJECT, GOOGLE_REGION):
            return Entry(request=meant, refusal=(403, "Permission denied on the resource."))
        return Entry(request=meant, refusal=_misplaced(request.body))


def _match(pattern: re.Pattern[str], raw_path: str) -> dict[str, Any]:
    found = pattern.fullmatch(unquote(raw_path))
    assert found is not None
    return found.groupdict()


def _misplaced(body: Mapping[str, Any]) -> tuple[int, str] | None:
    """What Anthropic's API has in its body or headers, and its models in the clouds elsewhere."""
    if not re.fullmatch(r"((bedrock|vertex)-)?20\d\d-\d\d-\d\d", str(body.get("anthropic_version"))):
        return 400, "anthropic_version: Field required"
    return (400, "model: Extra inputs are not permitted") if "model" in body else None


def _unpack(request: RecordedRequest, model: str, *, stream: bool) -> RecordedRequest:
    body = dict(request.body)
    version = str(body.pop("anthropic_version", ""))
    body.pop("anthropic_beta", None)
    dated = version.removeprefix("bedrock-").removeprefix("vertex-")
    return replace(
        request,
        endpoint=_MESSAGES,
        model=model,
        headers={**request.headers, **_BEHIND, "anthropic-version": dated},
        body={**body, "model": model, "stream": stream},
    )
