import socket
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.kit.settings import KitSettings, Seconds


class Settings(KitSettings):
    """What the orchestrator reads from the environment, as ORCHESTRATOR_… where no other name is given."""

    model_config = SettingsConfigDict(env_prefix="ORCHESTRATOR_")

    port: int = Field(50054, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=1)
    """One: a process has one DBOS, and each needs a name of its own; more replicas are more pods."""
    router_address: str = "127.0.0.1:50052"
    pipeline_address: str = "127.0.0.1:50053"

    planner: Literal["auto", "rules", "model"] = "auto"
    """`auto` lets a model plan where one is configured that is not local."""
    run_timeout_s: Seconds = 900.0
    """How long a run may take that no caller waits for."""
    max_runs: int = Field(64, ge=1)
    """Runs that one process carries out at the same time."""
    max_runs_per_tenant: int = Field(32, ge=1)
    """Runs of one tenant under way in all processes."""

    executor_id: str = Field(default_factory=socket.gethostname, min_length=1, max_length=256)
    """Stable over restarts, and another for each process: by it a restarted one knows its runs."""
    heartbeat_s: Seconds = 5.0
    silent_after_s: Seconds = 30.0
    """A process without a heartbeat for this long loses its runs to the others."""

    pool_size: int = Field(8, ge=2, le=50)
    pool_timeout_s: Seconds = 10.0
    redis_timeout_s: Seconds = 5.0
