"""Databases for one test or one module, copied from the session's migrated one."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg.rows import dict_row


@asynccontextmanager
async def copy_database(template: str) -> AsyncIterator[str]:
    """The address of a copy, which must be made while nobody is connected to the template itself."""
    server, _, source = template.rpartition("/")
    name = f"test_{secrets.token_hex(6)}"
    async with await psycopg.AsyncConnection.connect(f"{server}/postgres", autocommit=True) as connection:
        await connection.execute(f'create database "{name}" template "{source}"')
    yield f"{server}/{name}"
    async with await psycopg.AsyncConnection.connect(f"{server}/postgres", autocommit=True) as connection:
        await connection.execute(f'drop database "{name}" with (force)')


async def read_rows(url: str, statement: str) -> list[dict[str, Any]]:
    """What a statement of ours gives, by the columns' names; nothing for one that only changes something."""
    async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as connection:
        cursor = await connection.execute(statement.encode())
        return await cursor.fetchall() if cursor.description else []
