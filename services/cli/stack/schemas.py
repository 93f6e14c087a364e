from services.kit.migrations import migrate_service

STATEFUL = ("gateway", "router", "pipeline", "orchestrator")
"""The services that keep something in PostgreSQL."""


async def migrate_all(database_url: str) -> list[str]:
    """Brings every service's schema up to date; returns the steps applied, as `schema/NNNN_name`."""
    return [step for name in STATEFUL for step in await migrate_service(database_url, name)]
