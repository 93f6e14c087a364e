import platform

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.kit.settings import KitSettings, Port, Seconds

MIB = 1024 * 1024


class Settings(KitSettings):
    """What the pipeline service reads from the environment, prefix PIPELINE_."""

    model_config = SettingsConfigDict(env_prefix="PIPELINE_")

    port: Port = 50053
    workers: int = Field(default=1, ge=1, le=1)
    """One: a process has one DBOS, and each needs a name of its own; more replicas are more pods."""
    router_address: str = "127.0.0.1:50052"
    executor_id: str = Field(
        default_factory=lambda: f"pipeline@{platform.node()}", min_length=1, max_length=200
    )
    """Names this replica for ever: after a restart it takes up the jobs that it had."""
    read_timeout_s: Seconds = 60.0
    """For reading one document."""
    reader_memory_bytes: int = Field(default=2048 * MIB, ge=512 * MIB)
    """Of the address space of each process that reads documents."""
