"""OpenAI's models in Azure, by OpenAI's SDK."""

from typing import TYPE_CHECKING

import openai

from services.router.adapters.config.servers import AzureServer
from services.router.adapters.http.dialing import Egress
from services.router.adapters.sdk.client import SdkClient, open_http
from services.router.adapters.transport import COMMON_HEADERS

if TYPE_CHECKING:
    from services.router.adapters.sdk.entra import EntraTokens


class AzureClient(SdkClient):
    """Posts to the deployment that a body names as its model.

    Args:
        credentials: A key of the resource, or where tokens come from.
    """

    def __init__(
        self,
        server: AzureServer,
        credentials: "str | EntraTokens",
        egress: Egress,
        *,
        connect_timeout_s: float,
    ) -> None:
        http = open_http(egress, connect_timeout_s)
        self._tokens = None if isinstance(credentials, str) else credentials
        sdk = openai.AsyncAzureOpenAI(
            azure_endpoint=server.base_url,
            api_version=server.api_version,
            api_key=credentials if isinstance(credentials, str) else None,
            azure_ad_token_provider=self._tokens.find if self._tokens else None,
            max_retries=0,
            timeout=http.timeout,
            default_headers=COMMON_HEADERS,
            http_client=http,
        )
        super().__init__(sdk, status_error=openai.APIStatusError, connection_error=openai.APIConnectionError)

    async def close(self) -> None:
        """Closes the connections, and ends the waiting for a token."""
        if self._tokens is not None:
            await self._tokens.close()
        await super().close()
