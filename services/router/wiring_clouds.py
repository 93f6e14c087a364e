"""The part of the router's wiring that builds the clients of the vendors' clouds.

The SDKs cost up to a second and 100 MiB to import: each is only where a server of its kind can be used.
"""

from typing import TYPE_CHECKING

from services.kit.settings import SettingsError
from services.router.adapters.config.servers import AzureServer, BedrockServer, CloudServer, VertexServer
from services.router.adapters.http.dialing import Egress
from services.router.settings import read_secret

if TYPE_CHECKING:
    from services.router.adapters.sdk.client import SdkClient
    from services.router.adapters.sdk.entra import EntraTokens


def missing_secrets(server: CloudServer) -> tuple[str, ...]:
    """The variables that would have to be set, and are not."""
    needed: tuple[str, ...]
    match server:
        case _ if server.workload_identity:
            needed = ()
        case AzureServer():
            needed = (server.api_key_variable,)
        case BedrockServer() if server.api_key_variable:
            needed = (server.api_key_variable,)
        case BedrockServer():
            needed = (server.access_key_variable, server.secret_key_variable)
        case VertexServer():
            needed = (server.access_token_variable or server.credentials_variable,)
    return tuple(variable for variable in needed if not read_secret(variable))


def open_cloud(server: CloudServer, egress: Egress, connect_timeout_s: float) -> "SdkClient":
    """A client of the server; blocks while its SDK is imported.

    Raises SettingsError where the SDK is not installed, or the credentials cannot be read.
    """
    try:
        match server:
            case AzureServer():
                return _open_azure(server, egress, connect_timeout_s)
            case BedrockServer():
                return _open_bedrock(server, egress, connect_timeout_s)
            case VertexServer():
                return _open_vertex(server, egress, connect_timeout_s)
    except ModuleNotFoundError as error:
        message = (
            f"models.yaml, server {server.name}: {error.name} is not installed, which the kind "
            f"{server.kind} needs: pip install 'quartet[{server.kind}]'"
        )
        raise SettingsError(message) from None


def _open_azure(server: AzureServer, egress: Egress, connect_timeout_s: float) -> "SdkClient":
    from services.router.adapters.sdk.azure import AzureClient

    credentials = _find_tokens(server) if server.workload_identity else read_secret(server.api_key_variable)
    return AzureClient(server, credentials, egress, connect_timeout_s=connect_timeout_s)


def _find_tokens(server: AzureServer) -> "EntraTokens":
    from services.router.adapters.sdk.entra import EntraTokens

    return EntraTokens(server.token_scope)


def _open_bedrock(server: BedrockServer, egress: Egress, connect_timeout_s: float) -> "SdkClient":
    from services.router.adapters.sdk.bedrock import AwsKeys, BedrockClient

    credentials: str | AwsKeys | None
    if server.workload_identity:
        credentials = None
    elif server.api_key_variable:
        credentials = read_secret(server.api_key_variable)
    else:
        credentials = AwsKeys(
            access_key=read_secret(server.access_key_variable),
            secret_key=read_secret(server.secret_key_variable),
            session_token=read_secret(server.session_token_variable) or None,
        )
    return BedrockClient(server, credentials, egress, connect_timeout_s=connect_timeout_s)


def _open_vertex(server: VertexServer, egress: Egress, connect_timeout_s: float) -> "SdkClient":
    from services.router.adapters.sdk.vertex import GoogleTokens, VertexClient, find_account, read_account

    credentials: str | GoogleTokens
    if server.workload_identity:
        credentials = find_account()
    elif server.access_token_variable:
        credentials = read_secret(server.access_token_variable)
    else:
        variable = server.credentials_variable
        credentials = read_account(variable, read_secret(variable))
    return VertexClient(server, credentials, egress, connect_timeout_s=connect_timeout_s)
