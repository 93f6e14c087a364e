from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from services.kit.settings import KitSettings, Port, Seconds


class Settings(KitSettings):
    """What the gateway reads from the environment."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_")

    port: Port = 50051
    router_address: str = "127.0.0.1:50052"
    pipeline_address: str = "127.0.0.1:50053"
    orchestrator_address: str = "127.0.0.1:50054"
    database_connections: int = Field(default=4, ge=1, le=10)
    """Most connections to PostgreSQL at once; all services share its 200."""

    min_calls: int = Field(default=200, ge=1, le=100_000)
    """Calls at once in this process that no overload takes away; of them, the default priority gets 90 % and
    the sheddable one 50 %."""
    max_calls: int = Field(default=2000, ge=1, le=100_000)
    """Calls at once in this process, at most; where the limit starts."""
    first_event_s: Seconds = 5.0
    """A stream without its first event after this time counts as a sign of overload."""

    max_detached: int = Field(default=256, ge=1)
    """Requests with idempotency keys and resumable streams under way at once."""
    detached_timeout_s: Seconds = 600.0
    """How long such a request may take, whatever its client's deadline was."""
    response_log_max_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    """The longest answer that is kept for replay; longer ones reach their first client only."""
    response_log_timeout_s: Seconds = 0.05
    """How long such a request waits for Redis before it is refused."""

    @model_validator(mode="after")
    def _check_calls(self) -> Self:
        if self.min_calls > self.max_calls:
            raise ValueError("GATEWAY_MIN_CALLS is above GATEWAY_MAX_CALLS: lower it, or raise the other")
        return self
