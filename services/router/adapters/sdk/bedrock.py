"""Anthropic's models in Amazon Bedrock, by Anthropic's SDK and AWS's."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anthropic
import boto3
from botocore.exceptions import BotoCoreError, ClientError

from services.router.adapters.config.servers import BedrockServer
from services.router.adapters.http.connection import CredentialsError
from services.router.adapters.http.dialing import Egress
from services.router.adapters.sdk.client import SdkClient, open_http, state_version
from services.router.adapters.sdk.frames import AWS_EVENT_STREAM
from services.router.adapters.sdk.lookup import Lookup
from services.router.adapters.transport import COMMON_HEADERS

OLDER_VERSION = "bedrock-2023-05-31"
"""The one that has sampling parameters, by AWS's documentation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsKeys:
    """What signs a request, by AWS's Signature Version 4; the token belongs to temporary keys."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(repr=False)


class BedrockClient(SdkClient):
    """Posts to the model that a body names.

    Args:
        credentials: A Bedrock API key, AWS keys, or None for what AWS's own chain finds.
    """

    framing = AWS_EVENT_STREAM

    def __init__(
        self,
        server: BedrockServer,
        credentials: str | AwsKeys | None,
        egress: Egress,
        *,
        connect_timeout_s: float,
    ) -> None:
        http = open_http(egress, connect_timeout_s)
        self._client = anthropic.AsyncAnthropicBedrock(
            aws_region=server.region,
            base_url=server.base_url or f"https://bedrock-runtime.{server.region}.amazonaws.com",
            max_retries=0,
            timeout=http.timeout,
            default_headers=COMMON_HEADERS,
            http_client=http,
            open_telemetry=False,
        )
        super().__init__(
            self._client,
            status_error=anthropic.APIStatusError,
            connection_error=anthropic.APIConnectionError,
        )
        self._chain: Lookup[AwsKeys] | None = None
        if credentials is None:
            self._chain = Lookup(partial(_find_keys, boto3.Session(region_name=server.region)))
        # Set here, since the SDK would take what its constructor is not told from the environment.
        self._client.api_key = credentials if isinstance(credentials, str) else None
        if isinstance(credentials, AwsKeys):
            self._sign_with(credentials)

    async def close(self) -> None:
        """Closes the connections, and ends the waiting for keys."""
        if self._chain is not None:
            await self._chain.close()
        await super().close()

    async def _prepare(self, body: dict[str, Any], headers: dict[str, str]) -> None:
        state_version(body, headers, older=OLDER_VERSION)
        if self._chain is not None:
            try:
                self._sign_with(await self._chain.ask())
            except (BotoCoreError, ClientError) as error:
                raise CredentialsError(f"AWS's own chain finds no keys: {error}") from None

    def _sign_with(self, keys: AwsKeys) -> None:
        self._client.aws_access_key = keys.access_key
        self._client.aws_secret_key = keys.secret_key
        self._client.aws_session_token = keys.session_token


def _find_keys(session: boto3.Session) -> AwsKeys:
    """The keys of a profile, a role or an instance; AWS's SDK keeps them, and renews them in time."""
    found = session.get_credentials()
    if found is None:
        raise CredentialsError("AWS's own chain finds no keys on this machine")
    keys = found.get_frozen_credentials()
    return AwsKeys(access_key=keys.access_key, secret_key=keys.secret_key, session_token=keys.token)
