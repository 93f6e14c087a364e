"""OpenAI's models in Azure, by OpenAI's SDK."""

import openai

from services.router.adapters.config.servers import AzureServer
from services.router.adapters.http.dialing import Egress
from services.router.adapters.sdk.client import SdkClient, open_http
from services.router.adapters.transport import COMMON_HEADERS


class AzureClient(SdkClient):
    """Posts to the deployment that a body names as its model."""

    def __init__(
        self, server: AzureServer, api_key: str, egress: Egress, *, connect_timeout_s: float
    ) -> None:
        http = open_http(egress, connect_timeout_s)
        sdk = openai.AsyncAzureOpenAI(
            azure_endpoint=server.base_url,
            api_version=server.api_version,
            api_key=api_key,
            max_retries=0,
            timeout=http.timeout,
            default_headers=COMMON_HEADERS,
            http_client=http,
        )
        super().__init__(sdk, status_error=openai.APIStatusError, connection_error=openai.APIConnectionError)
