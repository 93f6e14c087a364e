import os
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from services.kit.settings import KitSettings, Port, Seconds, SettingsError

LOOPBACK = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}  # noqa: S104 - compared with, never bound


class Settings(KitSettings):
    """What the router reads from the environment; provider keys stand in it only."""

    model_config = SettingsConfigDict(env_prefix="ROUTER_")

    port: Port = 50052
    openai_api_key: str = Field(default="", validation_alias="OPENAI_API_KEY", repr=False)
    openai_base_url: str = Field(default="", validation_alias="OPENAI_BASE_URL")
    anthropic_api_key: str = Field(default="", validation_alias="ANTHROPIC_API_KEY", repr=False)
    anthropic_base_url: str = Field(default="", validation_alias="ANTHROPIC_BASE_URL")

    edge_port: Port = Field(default=8080, validation_alias="QUARTET_EDGE_PORT")
    edge_url: str = Field(default="", validation_alias="QUARTET_URL")
    """This suite's own edge, which is no model provider."""

    https_proxy: str = Field(default="", validation_alias="HTTPS_PROXY", repr=False)
    """http://[user:password@]host:port by which providers at https addresses are reached."""
    no_proxy: str = Field(default="", validation_alias="NO_PROXY")
    """Hosts that are reached directly all the same, separated by commas."""

    connect_timeout_s: Seconds = 10.0
    """How long a connection to a provider may take."""
    first_token_timeout_s: Seconds = 120.0
    """How long a stream may be silent before its first word."""
    between_tokens_timeout_s: Seconds = 60.0
    """How long a stream may be silent after it."""
    max_answer_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """The longest whole answer of a provider; a stream may have eight times as much, envelopes included."""

    max_retries: int = Field(default=2, ge=0, le=10)
    """Further attempts at one model, before its first word."""
    retry_share: float = Field(default=0.2, ge=0, le=1)
    """Retries of this process for each of its requests: an outage is not amplified by more."""
    min_retries_per_s: float = Field(default=10.0, ge=0, le=1000)
    """Retries that this process may make whatever the number of its requests."""
    limits_timeout_s: Seconds = 0.05
    """How long counting against a provider's limits may hold a call up, where `models.yaml` declares some."""
    limits_share: float = Field(default=0.5, gt=0, le=1)
    """Of those limits that this process allows itself while Redis is away."""
    breaker_failures: int = Field(default=5, ge=1, le=1000)
    """So many failures in a row, and a deployment cools down."""
    breaker_error_rate: float = Field(default=0.5, gt=0, le=1)
    """So does this share of failures, of `breaker_min_calls` or more within `breaker_window_s`."""
    breaker_min_calls: int = Field(default=20, ge=1)
    breaker_window_s: Seconds = 30.0
    breaker_cooldown_s: Seconds = 5.0
    """The first cooling; twice as long after each probe that fails."""
    breaker_max_cooldown_s: Seconds = 120.0
    embedder_threads: int = Field(default=1, ge=1, le=64)
    max_detached: int = Field(default=256, ge=1)
    """Requests with idempotency keys under way at once."""
    detached_timeout_s: Seconds = 600.0
    """How long such a request may take, whatever its caller's deadline was."""

    account_timeout_s: Seconds = 0.05
    """How long an attempt waits for Redis before it is made without a draw."""
    cache_timeout_s: Seconds = 0.05
    """An answer or a vector that takes longer to find in the cache is taken for missing."""
    session_ttl_s: Seconds = 3600.0
    """How long after its last answer a session's model is remembered."""
    session_timeout_s: Seconds = 0.05
    """How long asking Redis for it, and telling it, may hold a request up; then it is decided afresh."""
    calibration_interval_s: Seconds = 30.0
    """Between looks for a newer calibration of the policies."""
    database_connections: int = Field(default=2, ge=1, le=10)
    """Most connections to PostgreSQL at once, beside those of the two journals."""

    ledger_interval_s: Seconds = 0.25
    """How long a ledger entry waits to be written with others: what a killed process loses at most."""
    ledger_max_batch: int = Field(default=500, ge=1, le=10_000)
    """Entries that are written at once; so many are written without waiting."""
    ledger_max_waiting: int = Field(default=20_000, ge=1)
    """Entries kept while the database is away; more are dropped and counted."""
    ledger_close_timeout_s: Seconds = 5.0
    """How long a router that stops may still write."""
    ledger_retention_days: int = Field(default=400, ge=1, le=36_500)
    """The age at which rows of the ledger go, and decisions and outcomes with them."""

    @field_validator("openai_base_url", "anthropic_base_url", "edge_url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if url and urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("must begin with http:// or https://")
        return url.rstrip("/")

    def is_own_edge(self, url: str) -> bool:
        """Whether a provider's address is this suite's own edge: calls would run in a circle."""
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if parts.hostname in LOOPBACK and port == self.edge_port:
            return True
        edge = urlsplit(self.edge_url)
        edge_port = edge.port or (443 if edge.scheme == "https" else 80)
        return bool(self.edge_url) and (parts.hostname, port) == (edge.hostname, edge_port)


def read_secret(variable: str) -> str:
    """The secret in a variable that a configuration file names, or in the file that `VARIABLE_FILE` names."""
    value = os.environ.get(variable, "")
    path = os.environ.get(f"{variable}_FILE", "")
    if value or not path:
        return value
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{variable}_FILE: cannot read {path}: {error.strerror}") from None
