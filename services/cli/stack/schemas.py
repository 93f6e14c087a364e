from __future__ import annotations

from pathlib import Path

import services
from services.cli.settings import SERVICES
from services.kit.migrations import migrate, read_migrations


async def migrate_all(database_url: str) -> list[str]:
    """Brings every service's schema up to date; returns the steps applied, as `schema/NNNN_name`."""
    applied: list[str] = []
    for name in SERVICES:
        if migrations := read_migrations(migrations_folder(name)):
            applied += await migrate(database_url, schema=name, migrations=migrations)
    return applied


def migrations_folder(name: str) -> Path:
    """Where a service keeps the steps of its schema; found by path, since another image may lack its code."""
    return Path(services.__path__[0], name, "adapters", "postgres", "migrations")
