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

    account_timeout_s: Seconds = 0.05
    """How long a request waits for Redis before limits are in their mode without it."""

    max_detached: int = Field(default=256, ge=1)
    """Requests with idempotency keys and resumable streams under way at once."""
    detached_timeout_s: Seconds = 600.0
    """How long such a request may take, whatever its client's deadline was."""
    response_log_max_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    """The longest answer that is kept for replay; longer ones reach their first client only."""
    response_log_timeout_s: Seconds = 0.05
    """How long such a request waits for Redis before it is refused."""

    audit_retention_days: int | None = Field(default=None, ge=1, le=36_500)
    """Age at which entries of the audit log are removed; absent keeps them."""

    jwt_issuer: str = ""
    """The `iss` of the JWTs that are accepted beside API keys; empty accepts none."""
    jwt_audience: str = ""
    """What their `aud` must hold."""
    jwt_key_set: str = ""
    """Where the issuer's JWKS is: a path, or an https:// URL (http:// on this machine alone)."""
    jwt_algorithms: str = "RS256,ES256,EdDSA"
    """Accepted signatures, of RS256 to RS512, PS256 to PS512, ES256 to ES512 and EdDSA."""
    jwt_leeway_s: float = Field(default=30.0, ge=0, le=300)
    """How far the issuer's clock may be from ours."""
    jwt_tenant_claim: str = Field(default="tenant", min_length=1)
    """Names the tenant, which must exist."""
    jwt_scope_claim: str = Field(default="scope", min_length=1)
    """Holds the scopes: words in one text, or a list."""
    jwt_scope_prefix: str = "quartet:"
    """Marks the scopes that are meant for us, as in `quartet:rpc:Generate`; empty takes all of them."""
    jwt_refresh_s: Seconds = 300.0
    """Age of the JWKS after which it is read again."""

    @model_validator(mode="after")
    def _check_jwt(self) -> Self:
        given = {name: getattr(self, name) for name in ("jwt_issuer", "jwt_audience", "jwt_key_set")}
        missing = [f"GATEWAY_{name.upper()}" for name, value in given.items() if not value]
        if 0 < len(missing) < len(given):
            raise ValueError(f"JWTs need {' and '.join(missing)}, too: set them all, or none")
        return self

    @model_validator(mode="after")
    def _check_calls(self) -> Self:
        if self.min_calls > self.max_calls:
            raise ValueError("GATEWAY_MIN_CALLS is above GATEWAY_MAX_CALLS: lower it, or raise the other")
        return self
