import re
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import (
    SettingsError as SourceError,
)

MAX_MESSAGE_BYTES = 32 * 1024 * 1024 + 64 * 1024
"""What the edge lets through, and room for the message around it."""

# Drivers quote what they cannot read, in logs as well, and with it the password.
_DATABASE_URL = re.compile(r"postgres(ql)?://(?:[^@/?#\s]*@)?[^@/?#\s]*(?:[/?][^@]*)?")
_ESCAPED = "and what is special in user and password as %-codes: @ is %40, / is %2F, % is %25"
_WHOLE_ESCAPES = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


def shipped_config() -> Path:
    """The configuration in the repository, else the copy that the installed package carries."""
    package = Path(__file__).parents[1]
    repository = package.parent / "config"
    return repository if (repository / "routes.yaml").is_file() else package / "config"


class SettingsError(Exception):
    """A setting is missing or wrong; the message names the variable and never its value."""


class FileSource(EnvSettingsSource):
    """Reads `NAME_FILE` where `NAME` is not set, so that any setting can be a mounted secret."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The content of the file, without the white space around it."""
        for key, variable, is_complex in self._extract_field_info(field, field_name):
            path = self.env_vars.get(f"{variable}_file" if variable.islower() else f"{variable}_FILE")
            if path:
                try:
                    return Path(path).read_text(encoding="utf-8").strip(), key, is_complex
                except OSError as error:
                    message = f"{variable.upper()}_FILE: cannot read {path}: {error.strerror}"
                    raise SettingsError(message) from None
        return None, field_name, False


class KitSettings(BaseSettings):
    """What every process reads from the environment; a service's settings subclass it with their own prefix.

    Fields without an alias take the prefix: with `GATEWAY_`, `port` is `GATEWAY_PORT`. Those with one are
    shared by all services and have the same name everywhere.
    """

    model_config = SettingsConfigDict(extra="ignore", populate_by_name=True, env_ignore_empty=True)

    host: str = "127.0.0.1"
    port: Port = 0
    """0 takes any free port."""

    log_level: str = Field(
        default="INFO", validation_alias="QUARTET_LOG_LEVEL", pattern="^(DEBUG|INFO|WARNING|ERROR)$"
    )
    otlp_endpoint: str = Field(default="", validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    """Where traces and metrics go, as http://host:port of an OTLP gRPC receiver; empty sends nothing."""
    trace_ratio: float = Field(default=1.0, validation_alias="OTEL_TRACES_SAMPLER_ARG", ge=0, le=1)
    """Share of the traces begun here that are recorded; a caller's own decision is kept."""

    metric_interval_ms: int = Field(
        default=10_000, validation_alias="OTEL_METRIC_EXPORT_INTERVAL", ge=100, le=600_000
    )
    """Milliseconds between exports of metrics."""

    database_url: str = Field(default="", validation_alias="DATABASE_URL", repr=False)
    redis_url: str = Field(default="", validation_alias="REDIS_URL", repr=False)
    config_dir: Path = Field(default_factory=shipped_config, validation_alias="QUARTET_CONFIG_DIR")
    """Holds models.yaml, routes.yaml, pipelines.yaml and limits.yaml."""
    artifacts_dir: Path = Field(default=Path("build/artifacts"), validation_alias="QUARTET_ARTIFACTS_DIR")
    """Holds minilm/, the local embedding model and its tokenizer."""

    workers: int = Field(default=1, ge=1, le=64)
    """Processes that share the port; more than 1 needs SO_REUSEPORT."""
    drain_timeout_s: Seconds = Field(default=20.0, validation_alias="QUARTET_DRAIN_TIMEOUT_S")
    """How long calls in flight may still run after SIGTERM."""
    account_ttl_s: Seconds = Field(default=60.0, validation_alias="QUARTET_ACCOUNT_TTL_S")
    """After this time what a process that died had reserved of a limit goes back; the same for all."""
    unary_timeout_s: Seconds = Field(default=120.0, validation_alias="QUARTET_UNARY_TIMEOUT_S")
    """The deadline of a unary call whose client set none."""
    stream_timeout_s: Seconds = Field(default=600.0, validation_alias="QUARTET_STREAM_TIMEOUT_S")
    """The deadline of a stream whose client set none."""
    keepalive_s: Seconds = Field(default=15.0, validation_alias="QUARTET_STREAM_KEEPALIVE_S")
    """How long a stream may be silent before a message without content is sent on it."""
    max_message_bytes: int = Field(
        default=MAX_MESSAGE_BYTES, validation_alias="QUARTET_MAX_MESSAGE_BYTES", ge=1024
    )
    max_connection_age_s: Seconds = Field(default=1800.0, validation_alias="QUARTET_MAX_CONNECTION_AGE_S")
    """Connections are closed after this time, so that clients find new servers."""
    max_connection_age_grace_s: Seconds = Field(
        default=660.0, validation_alias="QUARTET_MAX_CONNECTION_AGE_GRACE_S"
    )
    """How long calls in flight may still run on such a connection: longer than the longest stream."""

    @field_validator("otlp_endpoint")
    @classmethod
    def _check_otlp_endpoint(cls, url: str) -> str:
        if url and not (url.startswith(("http://", "https://")) and has_sound_port(url)):
            raise ValueError("write http://host:port or https://host:port of a receiver of OTLP over gRPC")
        return url

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, url: str) -> str:
        if url and not (_DATABASE_URL.fullmatch(url) and _WHOLE_ESCAPES.fullmatch(url)):
            raise ValueError(f"write postgresql://user:password@host:port/database, {_ESCAPED}")
        return url

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: str) -> str:
        if url and not (url.startswith(("redis://", "rediss://", "unix://")) and has_sound_port(url)):
            raise ValueError(f"write redis://user:password@host:port/0, or rediss:// for TLS, {_ESCAPED}")
        return url

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the files that it names; no .env file is looked for."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, FileSource(settings_cls)

    @classmethod
    def load(cls) -> Self:
        """Reads the environment; raises SettingsError naming every variable at fault."""
        try:
            return cls()
        except ValidationError as error:
            faults = error.errors(include_input=False, include_url=False)
            raise SettingsError("; ".join(_describe(cls, fault) for fault in faults)) from None
        except SourceError as error:
            if isinstance(error.__cause__, SettingsError):
                raise error.__cause__ from None
            raise SettingsError(str(error)) from None


def has_sound_port(url: str) -> bool:
    """Whether a URL can be taken apart, and its port, if it names one, is a number that ports can have."""
    try:
        urlsplit(url).port  # noqa: B018 - it is read here, and may not be there to be read
    except ValueError:
        return False
    return True


def _describe(settings: type[BaseSettings], fault: ErrorDetails) -> str:
    """The variable and what is wrong with it; where several are at fault together, the text names them."""
    what = fault["msg"].removeprefix("Value error, ")
    return f"{_variable(settings, str(fault['loc'][0]))}: {what}" if fault["loc"] else what


def _variable(settings: type[BaseSettings], location: str) -> str:
    field = settings.model_fields.get(location)
    if field is None:
        return location
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return str(alias) if alias else f"{settings.model_config.get('env_prefix', '')}{location}".upper()
