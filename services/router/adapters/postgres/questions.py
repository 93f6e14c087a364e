"""Questions of the semantic cache in PostgreSQL, found by pgvector's cosine distance."""

import asyncio
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout

from services.kit.postgres import Pool
from services.router.domain.semantic import Neighbour, Question
from services.router.ports import StoreUnavailableError

TIMEOUT_S = 0.25

# A context is one tenant's system prompt, model and settings: an exact scan of its few questions is quick.
_NEAREST = """
select text, answer from router.questions
where tenant = %(tenant)s and context = %(context)s and expire_time > now()
  and 1 - (embedding operator(public.<=>) %(vector)s::public.halfvec) >= %(least)s
order by embedding operator(public.<=>) %(vector)s::public.halfvec limit %(limit)s
"""
_ADD = """
with expired as (
  delete from router.questions where ctid in (
    select ctid from router.questions where expire_time <= now() limit 16
  )
)
insert into router.questions (tenant, context, answer, text, embedding, expire_time)
values (
  %(tenant)s, %(context)s, %(answer)s, %(text)s, %(vector)s::public.halfvec,
  now() + %(ttl_s)s * interval '1 s'
)
on conflict (tenant, context, answer) do update set expire_time = excluded.expire_time
"""
"""Each addition takes a few expired questions away, so that the table stays as large as what lives."""


class PostgresQuestions:
    """`QuestionIndex` made real."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def nearest(self, question: Question, *, least_similarity: float, limit: int) -> list[Neighbour]:
        """The nearest questions of the same tenant and context."""
        values = {**_values(question), "least": least_similarity, "limit": limit}
        rows = await self._execute(_NEAREST, values, fetch=True)
        return [Neighbour(text=text, answer=answer) for text, answer in rows]

    async def add(self, question: Question, answer: str, *, ttl_s: int) -> None:
        """Keeps a question."""
        await self._execute(_ADD, {**_values(question), "answer": answer, "ttl_s": ttl_s}, fetch=False)

    async def _execute(self, statement: str, values: dict[str, Any], *, fetch: bool) -> list[Any]:
        try:
            async with asyncio.timeout(TIMEOUT_S), self._pool.connection() as connection:
                cursor = await connection.execute(statement.encode(), values)
                return await cursor.fetchall() if fetch else []
        except (psycopg.OperationalError, PoolTimeout, TimeoutError) as error:
            raise StoreUnavailableError(str(error)) from error


def _values(question: Question) -> dict[str, Any]:
    numbers = memoryview(question.vector).cast("f")
    return {
        "tenant": question.tenant,
        "context": question.context,
        "text": question.text,
        "vector": f"[{','.join(f'{number:.6g}' for number in numbers)}]",
    }
