from __future__ import annotations

import asyncio
import hashlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from services.kit.errors import FailedPrecondition
from services.kit.postgres import spell_out_hosts
from services.kit.settings import KitSettings, SettingsError

# Any constant will do, as long as every release uses the same one.
LOCK_KEY = 0x9A27E7
LOCK_TIMEOUT_S = 60
LOCK_PERIOD_S = 0.1
CONNECT_TIMEOUT_S = 10
_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


DURABLE_SCHEMA_FILE = "dbos_schema"
"""Beside a service's migrations; holds the name of the schema in which DBOS keeps the service's workflows."""


async def migrate_service(database_url: str, name: str) -> list[str]:
    """Brings a service's schema, and that of its durable workflows, up to date; returns the steps applied.

    The service is found by its folder, because another service's image may lack what its code imports.
    Raises what `migrate` raises; ValueError for a service without migrations.
    """
    folder = Path(__file__).parents[1] / name / "adapters" / "postgres" / "migrations"
    migrations = read_migrations(folder)
    if not migrations:
        raise ValueError(f"{name} has no migrations")
    applied = await migrate(database_url, schema=name, migrations=migrations)
    durable = folder / DURABLE_SCHEMA_FILE
    if durable.exists():
        await _migrate_durable(database_url, durable.read_text(encoding="ascii").strip())
    return applied


async def _migrate_durable(database_url: str, schema: str) -> None:
    from dbos import DBOS

    connection = await psycopg.AsyncConnection.connect(
        database_url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S
    )
    async with connection:
        await _lock(connection)
        await asyncio.to_thread(DBOS.migrate, spell_out_hosts(database_url), schema=schema)


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One numbered step of a schema, known by the hash of its text."""

    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()


def read_migrations(folder: Path) -> list[Migration]:
    """The folder's `NNNN_name.sql` files in order; ValueError for another name, a gap or a double number."""
    migrations: list[Migration] = []
    for number, path in enumerate(sorted(folder.glob("*.sql")), start=1):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None or int(match[1]) != number:
            raise ValueError(f"{path}: expected a file named {number:04}_name.sql")
        migrations.append(Migration(number=number, name=match[2], text=path.read_text(encoding="utf-8")))
    return migrations


async def migrate(conninfo: str, *, schema: str, migrations: list[Migration]) -> list[str]:
    """Brings a schema up to date and returns the names of the steps that it applied.

    The schema is made where missing and comes first in the search path of each step, `public` second: an
    extension that several schemas use belongs there (`create extension … with schema public`). Each step runs
    in a transaction of its own and is recorded in `SCHEMA.schema_migrations`. Callers that run at the same
    time wait for one another under an advisory lock, at most 60 s.

    Raises:
        FailedPrecondition: an applied step was changed, or is unknown to this release, or the lock is held.
        psycopg.Error: the database cannot be reached, or a step fails; the steps before it stay applied.
    """
    connection = await psycopg.AsyncConnection.connect(
        conninfo, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S
    )
    async with connection:
        await _lock(connection)
        # The lock ends with the session: also when this process dies.
        return await _apply(connection, schema, migrations)


async def _lock(connection: psycopg.AsyncConnection) -> None:
    # Asked for again and again instead of waited for: a statement that waits would itself hold up the indexes
    # that the lock's holder builds concurrently.
    for _ in range(int(LOCK_TIMEOUT_S / LOCK_PERIOD_S)):
        taken = await connection.execute("select pg_try_advisory_lock(%s)", (LOCK_KEY,))
        if await taken.fetchone() == (True,):
            return
        await asyncio.sleep(LOCK_PERIOD_S)
    raise FailedPrecondition(
        f"Another migration has held the lock for {LOCK_TIMEOUT_S} s: wait for it and try again.",
        reason="MIGRATION_LOCKED",
    )


async def _apply(connection: psycopg.AsyncConnection, schema: str, migrations: list[Migration]) -> list[str]:
    name = sql.Identifier(schema)
    async with connection.transaction():
        await connection.execute(sql.SQL("create schema if not exists {}").format(name))
        await connection.execute(
            sql.SQL(
                "create table if not exists {}.schema_migrations ("
                "number int primary key, name text not null, checksum text not null, "
                "applied_at timestamptz not null default now())"
            ).format(name)
        )
    rows = await connection.execute(sql.SQL("select number, checksum from {}.schema_migrations").format(name))
    applied: dict[int, str] = dict(await rows.fetchall())
    _check_history(schema, migrations, applied)
    pending = [migration for migration in migrations if migration.number not in applied]
    for migration in pending:
        async with connection.transaction():
            await connection.execute(sql.SQL("set local search_path = {}, public").format(name))
            await connection.execute(migration.text.encode("utf-8"))
            await connection.execute(
                sql.SQL(
                    "insert into {}.schema_migrations (number, name, checksum) values (%s, %s, %s)"
                ).format(name),
                (migration.number, migration.name, migration.checksum),
            )
    return [f"{schema}/{migration.number:04}_{migration.name}" for migration in pending]


def _check_history(schema: str, migrations: list[Migration], applied: dict[int, str]) -> None:
    known = {migration.number: migration for migration in migrations}
    for number, checksum in sorted(applied.items()):
        if number not in known:
            raise FailedPrecondition(
                f"The database has migration {number:04} of {schema}, which this release does not know: "
                "run the newer release that made it.",
                reason="SCHEMA_NEWER",
            )
        if known[number].checksum != checksum:
            raise FailedPrecondition(
                f"Migration {number:04}_{known[number].name} of {schema} was changed after it was applied: "
                "restore its text, and write the change as a new migration.",
                reason="MIGRATION_CHANGED",
            )


def main() -> None:
    """`python -m services.kit.migrations SERVICE …` with DATABASE_URL, for containers."""
    try:
        database_url = KitSettings.load().database_url
        if not database_url:
            raise SettingsError("DATABASE_URL is not set")
        for name in sys.argv[1:]:
            for step in asyncio.run(migrate_service(database_url, name)):
                sys.stdout.write(f"applied {step}\n")
    except (psycopg.Error, FailedPrecondition, SettingsError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
