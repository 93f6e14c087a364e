"""The servers of `models.yaml`: those reached by an address, and the vendors' models in the clouds."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from services.kit.config_file import Strict
from services.router.adapters.config.entries import ModelEntry
from services.router.domain.catalogue import Dialect

Variable = Annotated[str, Field(pattern="^[A-Z][A-Z0-9_]*$")]
"""Names an environment variable; the one with _FILE at its end may name a file instead."""
Url = Annotated[str, Field(pattern="^https?://[^/?#]")]
Label = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9-]*$", max_length=64)]
"""A region or a project: it becomes part of a host's name and of a path."""

COMPATIBLE: Literal["compatible"] = "compatible"


class _Server(Strict):
    name: str = Field(pattern="^[a-z0-9][a-z0-9_-]*$", max_length=64)
    models: tuple[ModelEntry, ...] = ()


class CompatibleServer(_Server):
    """A server that speaks as one of the vendors does."""

    kind: Literal["compatible"] = COMPATIBLE
    base_url: Url
    dialect: Literal["openai", "anthropic"] = "openai"
    api_key_variable: Variable | Literal[""] = ""

    @property
    def speaks(self) -> Dialect:
        """The format of its requests."""
        return Dialect(self.dialect)


class AzureServer(_Server):
    """An Azure resource with OpenAI's models; a model's `upstream` is the name of its deployment."""

    speaks: ClassVar = Dialect.OPENAI
    kind: Literal["azure"]
    base_url: Url
    api_version: str = Field(pattern=r"^20\d\d-\d\d-\d\d(-preview)?$")
    api_key_variable: Variable = "AZURE_OPENAI_API_KEY"
    workload_identity: bool = False
    """Tokens of Microsoft Entra take the key's place, of the identity that Azure's default chain finds."""
    token_scope: str = Field(default="https://cognitiveservices.azure.com/.default", pattern="^https://")
    """What the tokens are good for; national clouds have their own."""


class BedrockServer(_Server):
    """Anthropic's models in a region of Amazon Bedrock; `upstream` is the id of a model or inference profile.

    Either a Bedrock API key, where `api_key_variable` is given, or the AWS keys sign.
    """

    speaks: ClassVar = Dialect.ANTHROPIC
    kind: Literal["bedrock"]
    region: Label
    base_url: Url | Literal[""] = ""
    api_key_variable: Variable | Literal[""] = ""
    access_key_variable: Variable = "AWS_ACCESS_KEY_ID"
    secret_key_variable: Variable = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - the variable's name
    session_token_variable: Variable = "AWS_SESSION_TOKEN"  # noqa: S105 - the variable's name
    workload_identity: bool = False
    """AWS's own chain finds the keys, such as a role of the machine or the pod."""


class VertexServer(_Server):
    """Anthropic's models in a Google Cloud project; `upstream` is the id of the model there."""

    speaks: ClassVar = Dialect.ANTHROPIC
    kind: Literal["vertex"]
    project: Label
    region: Label
    base_url: Url | Literal[""] = ""
    credentials_variable: Variable = "GOOGLE_CREDENTIALS"
    """The variable holds the key of a service account, as JSON."""
    access_token_variable: Variable | Literal[""] = ""
    """Takes a token as it is in place of credentials; nobody renews it."""
    workload_identity: bool = False
    """Google's application default credentials are used, such as the machine's or the pod's account."""


CloudServer = AzureServer | BedrockServer | VertexServer


def _kind_of(server: Any) -> Any:
    return server.get("kind", COMPATIBLE) if isinstance(server, dict) else getattr(server, "kind", None)


Server = Annotated[
    Annotated[CompatibleServer, Tag(COMPATIBLE)]
    | Annotated[AzureServer, Tag("azure")]
    | Annotated[BedrockServer, Tag("bedrock")]
    | Annotated[VertexServer, Tag("vertex")],
    Discriminator(_kind_of),
]
