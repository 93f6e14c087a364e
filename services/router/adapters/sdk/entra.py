"""Access tokens of Microsoft Entra, by Azure's library."""

import time

from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError, ServiceRequestError, ServiceResponseError
from azure.identity import DefaultAzureCredential

from services.router.adapters.http.connection import CredentialsError
from services.router.adapters.http.dialing import UnreachableError
from services.router.adapters.sdk.lookup import Lookup

TOKEN_TIMEOUT_S = 10.0
"""For each request of Azure's library for a token, in place of its 300 s."""
TOKEN_RETRIES = 2
"""In place of its ten, which wait for minutes."""
RENEWED_BEFORE_S = 300.0
"""Azure's library gives its kept token again until then, and a new one from then on."""


class EntraTokens:
    """Tokens of the identity that Azure's default chain finds, made anew some minutes before their end.

    Why one is not given is in the log, by the library's own warnings: it names tenants and applications.

    Args:
        scope: What the tokens are good for.
    """

    def __init__(self, scope: str) -> None:
        self._scope = scope
        self._credential: DefaultAzureCredential | None = None
        self._token: AccessToken | None = None
        self._lookup = Lookup(self._request)

    async def find(self) -> str:
        """A token that is good; raises UnreachableError or CredentialsError."""
        token = self._token
        if token is None or token.expires_on - time.time() < RENEWED_BEFORE_S:
            try:
                token = self._token = await self._lookup.ask()
            except (ServiceRequestError, ServiceResponseError) as error:
                raise UnreachableError(f"no access token of Microsoft Entra: {error}") from None
            except (AzureError, OSError, ValueError) as error:
                message = (
                    "Azure's own chain finds no identity that gets an access token of Microsoft Entra, "
                    f"see the router's log: {type(error).__name__}"
                )
                raise CredentialsError(message) from None
        return token.token

    async def close(self) -> None:
        """Ends the waiting for a token."""
        await self._lookup.close()
        if self._credential is not None:
            self._credential.close()

    def _request(self) -> AccessToken:
        if self._credential is None:
            self._credential = DefaultAzureCredential(
                connection_timeout=TOKEN_TIMEOUT_S, read_timeout=TOKEN_TIMEOUT_S, retry_total=TOKEN_RETRIES
            )
        return self._credential.get_token(self._scope)
