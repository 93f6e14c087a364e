"""Anthropic's models in Google's Vertex AI, by Anthropic's SDK and Google's."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import anthropic
import google.auth
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError, TransportError
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from services.kit.settings import SettingsError
from services.router.adapters.config.servers import VertexServer
from services.router.adapters.http.connection import CredentialsError
from services.router.adapters.http.dialing import Egress, UnreachableError
from services.router.adapters.sdk.client import SdkClient, open_http, state_version
from services.router.adapters.sdk.lookup import Lookup
from services.router.adapters.transport import COMMON_HEADERS

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
OLDER_VERSION = "vertex-2023-10-16"
"""The one that has sampling parameters, by Google's documentation."""
TOKEN_TIMEOUT_S = 10.0
"""For each request of Google's library for a token."""


class GoogleTokens:
    """Access tokens of one account, made anew some minutes before their end.

    Args:
        load: Finds the account; may block.
    """

    def __init__(self, load: Callable[[], Credentials]) -> None:
        self._load = load
        self._credentials: Credentials | None = None
        self._lookup = Lookup(self._refresh)

    async def find(self) -> str:
        """A token that is good; raises UnreachableError or CredentialsError."""
        credentials = self._credentials
        if credentials is None or not credentials.valid:
            try:
                credentials = self._credentials = await self._lookup.ask()
            except TransportError as error:
                raise UnreachableError(f"no access token: {error}") from None
            except GoogleAuthError as error:
                raise CredentialsError(f"no access token: {error}") from None
        return str(credentials.token)

    async def close(self) -> None:
        """Ends the waiting for a token."""
        await self._lookup.close()

    def _refresh(self) -> Credentials:
        credentials = self._credentials or self._load()
        credentials.refresh(partial(Request(), timeout=TOKEN_TIMEOUT_S))  # type: ignore[no-untyped-call]
        return credentials


class VertexClient(SdkClient):
    """Posts to the model that a body names, in one project and region.

    Args:
        credentials: Where tokens come from, or a token that is used as it is.
    """

    def __init__(
        self,
        server: VertexServer,
        credentials: str | GoogleTokens,
        egress: Egress,
        *,
        connect_timeout_s: float,
    ) -> None:
        http = open_http(egress, connect_timeout_s)
        sdk = anthropic.AsyncAnthropicVertex(
            region=server.region,
            project_id=server.project,
            base_url=server.base_url or None,
            max_retries=0,
            timeout=http.timeout,
            default_headers=COMMON_HEADERS,
            http_client=http,
            open_telemetry=False,
        )
        super().__init__(
            sdk, status_error=anthropic.APIStatusError, connection_error=anthropic.APIConnectionError
        )
        self._credentials = credentials

    async def close(self) -> None:
        """Closes the connections, and ends the waiting for a token."""
        if isinstance(self._credentials, GoogleTokens):
            await self._credentials.close()
        await super().close()

    async def _prepare(self, body: dict[str, Any], headers: dict[str, str]) -> None:
        state_version(body, headers, older=OLDER_VERSION)
        credentials = self._credentials
        token = credentials if isinstance(credentials, str) else await credentials.find()
        headers["authorization"] = f"Bearer {token}"


def read_account(variable: str, key: str) -> GoogleTokens:
    """The tokens of a service account; raises SettingsError for what is no key of one."""
    try:
        make = service_account.Credentials.from_service_account_info
        account = make(json.loads(key), scopes=SCOPES)  # type: ignore[no-untyped-call]
    except (ValueError, GoogleAuthError) as error:
        raise SettingsError(f"{variable} holds no key of a service account: {type(error).__name__}") from None
    return GoogleTokens(lambda: account)


def find_account() -> GoogleTokens:
    """The tokens of Google's application default credentials."""
    return GoogleTokens(lambda: google.auth.default(scopes=SCOPES)[0])
