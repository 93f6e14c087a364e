from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.kit.settings import KitSettings, Port


class Settings(KitSettings):
    """What the gateway reads from the environment."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_")

    port: Port = 50051
    router_address: str = "127.0.0.1:50052"
    pipeline_address: str = "127.0.0.1:50053"
    orchestrator_address: str = "127.0.0.1:50054"
    database_connections: int = Field(default=4, ge=1, le=10)
    """Most connections to PostgreSQL at once; all services share its 200."""
