from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from services.kit.errors import FailedPrecondition

if TYPE_CHECKING:
    from pathlib import Path

# Any constant will do, as long as every release uses the same one.
LOCK_KEY = 0x9A27E7
LOCK_TIMEOUT_S = 60
CONNECT_TIMEOUT_S = 10
_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


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
    await connection.execute(sql.SQL("set lock_timeout = {}").format(f"{LOCK_TIMEOUT_S}s"))
    try:
        await connection.execute("select pg_advisory_lock(%s)", (LOCK_KEY,))
    except psycopg.errors.LockNotAvailable as error:
        raise FailedPrecondition(
            f"Another migration has held the lock for {LOCK_TIMEOUT_S} s: wait for it and try again.",
            reason="MIGRATION_LOCKED",
        ) from error


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
