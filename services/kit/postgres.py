"""PostgreSQL as every service reaches it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote, urlencode

from psycopg import AsyncConnection, OperationalError
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

Connection = AsyncConnection[TupleRow]


class StandbyError(OperationalError):
    """The server that answered takes no writes, as a standby after a failover; another one may."""


class Pool(AsyncConnectionPool[Connection]):
    """A pool whose connections are made anew once one of them led to a server that takes no writes.

    So what is tried again finds the primary, where a name or a URL of several hosts leads to it meanwhile.
    """

    @asynccontextmanager
    async def connection(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - psycopg's
    ) -> AsyncIterator[Connection]:
        """As psycopg's own, with StandbyError among the outages."""
        async with super().connection(timeout) as connection:
            try:
                yield connection
            except ReadOnlySqlTransaction as error:
                await self.drain()
                raise StandbyError(str(error)) from error


def spell_out_hosts(database_url: str) -> str:
    """The URL with several hosts as parameters, which is how SQLAlchemy reads them; libpq reads either."""
    fields = conninfo_to_dict(database_url)
    hosts = str(fields.get("host") or "").split(",")
    if len(hosts) == 1:
        return database_url
    if "," not in (port := str(fields.get("port") or "")):
        fields["port"] = ",".join([port] * len(hosts))
    user, password = (quote(str(fields.pop(name, "")), safe="") for name in ("user", "password"))
    database = quote(str(fields.pop("dbname", "")), safe="")
    credential = f"{user}:{password}@" if password else f"{user}@" if user else ""
    return f"postgresql://{credential}/{database}?{urlencode(fields, quote_via=quote)}"
