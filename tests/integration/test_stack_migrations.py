import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from services.kit.errors import FailedPrecondition
from services.kit.migrations import Migration, migrate

FIRST = Migration(number=1, name="notes", text="create table notes (id int); insert into notes values (1)")
SECOND = Migration(number=2, name="titles", text="alter table notes add column title text")


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        yield connection


async def test_pending_steps_are_applied_in_order_and_once(
    database_url: str, connection: psycopg.AsyncConnection
) -> None:
    assert await migrate(database_url, schema="pad", migrations=[FIRST]) == ["pad/0001_notes"]
    assert await migrate(database_url, schema="pad", migrations=[FIRST, SECOND]) == ["pad/0002_titles"]
    assert await migrate(database_url, schema="pad", migrations=[FIRST, SECOND]) == []
    rows = await connection.execute("select id, title from pad.notes")
    assert await rows.fetchall() == [(1, None)]


async def test_those_who_migrate_at_the_same_time_wait_for_one_another(
    database_url: str, connection: psycopg.AsyncConnection
) -> None:
    runs = [migrate(database_url, schema="pad", migrations=[FIRST, SECOND]) for _ in range(4)]
    applied = await asyncio.gather(*runs)
    assert sorted(map(len, applied)) == [0, 0, 0, 2]


async def test_a_step_that_was_changed_after_it_was_applied_is_refused(
    database_url: str, connection: psycopg.AsyncConnection
) -> None:
    await migrate(database_url, schema="pad", migrations=[FIRST])
    changed = Migration(number=1, name="notes", text="create table notes (id bigint)")
    with pytest.raises(FailedPrecondition, match="0001_notes of pad was changed"):
        await migrate(database_url, schema="pad", migrations=[changed])


async def test_a_database_of_a_newer_release_is_refused(
    database_url: str, connection: psycopg.AsyncConnection
) -> None:
    await migrate(database_url, schema="pad", migrations=[FIRST, SECOND])
    with pytest.raises(FailedPrecondition, match="0002 of pad, which this release does not know"):
        await migrate(database_url, schema="pad", migrations=[FIRST])


async def test_a_step_that_fails_leaves_no_trace_of_itself(
    database_url: str, connection: psycopg.AsyncConnection
) -> None:
    broken = Migration(number=2, name="broken", text="create table half (id int); select no_such_function()")
    with pytest.raises(psycopg.errors.UndefinedFunction):
        await migrate(database_url, schema="pad", migrations=[FIRST, broken])
    rows = await connection.execute(
        "select to_regclass('pad.notes') is null, to_regclass('pad.half') is null"
    )
    assert await rows.fetchone() == (False, True)
    assert await migrate(database_url, schema="pad", migrations=[FIRST, SECOND]) == ["pad/0002_titles"]
