"""The part of the router's wiring that builds what keeps things in PostgreSQL and Redis."""

import asyncio
import logging
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from services.kit import telemetry
from services.kit.accounts.store import Accounts
from services.kit.postgres import Pool
from services.kit.tasks import end
from services.router.adapters.metered import Instruments
from services.router.adapters.minilm.embedder import MiniLMEmbedder
from services.router.adapters.postgres.journal import DECISIONS, LEDGER, PostgresJournal
from services.router.adapters.postgres.outcomes import TIMEOUT_S, PostgresOutcomes
from services.router.adapters.postgres.questions import PostgresQuestions
from services.router.adapters.postgres.retention import PostgresRetention
from services.router.adapters.postgres.tenant_data import PostgresTenantData
from services.router.adapters.redis.answers import RedisAnswers
from services.router.adapters.redis.cache import RedisCache
from services.router.adapters.redis.limits import RedisLimits
from services.router.adapters.redis.vectors import RedisVectors
from services.router.domain.cached_answering import CachedAnswering
from services.router.domain.cascading import Cascading
from services.router.domain.decision_log import DecisionLog
from services.router.domain.limits import Gate
from services.router.domain.once import Once
from services.router.domain.routes import RouteTable
from services.router.domain.semantic import SemanticCache
from services.router.domain.sessions import Sessions
from services.router.settings import Settings

if TYPE_CHECKING:
    from services.router.domain.ledger import Entry

log = logging.getLogger(__name__)


class Database:
    """What the router keeps in PostgreSQL; all of it None without a database. The stack closes it."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self.ledger: PostgresJournal[Entry] | None = None
        self.decisions: DecisionLog | None = None
        self.outcomes: PostgresOutcomes | None = None
        self.questions: PostgresQuestions | None = None
        self.tenant_data: PostgresTenantData | None = None

    async def open(self) -> None:
        url = self._settings.database_url
        if not url:
            log.warning("model calls are in no ledger: DATABASE_URL is not set")
            return
        self.ledger = self._journal(LEDGER)
        self.decisions = DecisionLog(self._journal(DECISIONS), lambda: datetime.now(UTC))
        pool = Pool(
            url,
            min_size=0,
            max_size=self._settings.database_connections,
            timeout=TIMEOUT_S,
            max_waiting=64,
            open=False,
            kwargs={"autocommit": True, "options": f"-c statement_timeout={round(TIMEOUT_S * 1000)}"},
        )
        await self._stack.enter_async_context(pool)
        self.outcomes = PostgresOutcomes(pool)
        self.questions = PostgresQuestions(pool)
        self.tenant_data = PostgresTenantData(pool)
        age = timedelta(days=self._settings.ledger_retention_days)
        retention = asyncio.create_task(PostgresRetention(pool, age).keep(), name="retention")
        self._stack.push_async_callback(end, retention)

    def _journal(self, statement: str) -> PostgresJournal[Any]:
        settings = self._settings
        journal: PostgresJournal[Any] = PostgresJournal(
            settings.database_url,
            telemetry.meter(),
            statement=statement,
            interval_s=settings.ledger_interval_s,
            max_batch=settings.ledger_max_batch,
            max_waiting=settings.ledger_max_waiting,
            close_timeout_s=settings.ledger_close_timeout_s,
        )
        journal.open()
        self._stack.push_async_callback(journal.close)
        return journal


def with_cache(
    settings: Settings,
    stack: AsyncExitStack,
    answering: Cascading,
    instruments: Instruments,
    database: Database,
    embedder: MiniLMEmbedder,
) -> Cascading | CachedAnswering:
    """The models behind the cache; without Redis there is none."""
    if not settings.redis_url:
        return answering
    store = RedisCache(settings.redis_url, "cache", timeout_s=settings.cache_timeout_s)
    stack.push_async_callback(store.close)
    semantic = SemanticCache(database.questions, embedder) if database.questions is not None else None
    cached = CachedAnswering(
        answering, store, semantic, instruments.note_hit, flight_timeout_s=settings.detached_timeout_s
    )
    stack.push_async_callback(cached.close)
    return cached


def open_vectors(settings: Settings, stack: AsyncExitStack) -> RedisVectors | None:
    """Where vectors of texts are kept; None without Redis."""
    if not settings.redis_url:
        return None
    vectors = RedisVectors(settings.redis_url, timeout_s=settings.cache_timeout_s)
    stack.push_async_callback(vectors.close)
    return vectors


def open_once(settings: Settings, stack: AsyncExitStack) -> Once | None:
    """What answers requests with an idempotency key once; None without Redis."""
    if not settings.redis_url:
        return None
    answers = RedisAnswers(settings.redis_url)
    stack.push_async_callback(answers.close)
    once = Once(answers, max_detached=settings.max_detached, timeout_s=settings.detached_timeout_s)
    stack.push_async_callback(once.close)
    return once


def open_sessions(settings: Settings, routes: RouteTable, stack: AsyncExitStack) -> Sessions:
    """The memory of sessions; without Redis there is none."""
    if not settings.redis_url:
        return Sessions(None, routes)
    timeout_s = settings.session_timeout_s
    store = RedisCache(settings.redis_url, "session", timeout_s=timeout_s, write_timeout_s=timeout_s)
    stack.push_async_callback(store.close)
    return Sessions(store, routes, ttl_s=settings.session_ttl_s)


async def open_accounts(settings: Settings, stack: AsyncExitStack) -> Accounts | None:
    """The accounts that attempts draw from; None without Redis."""
    if not settings.redis_url:
        return None
    accounts = Accounts(
        settings.redis_url, ttl_s=settings.account_ttl_s, timeout_s=settings.account_timeout_s
    )
    stack.push_async_callback(accounts.shut)
    await accounts.start()
    return accounts


def open_gate(settings: Settings, stack: AsyncExitStack) -> Gate:
    """What holds deployments to their limits; without Redis each router counts for itself."""
    if not settings.redis_url:
        return Gate()
    store = RedisLimits(settings.redis_url, timeout_s=settings.limits_timeout_s)
    stack.push_async_callback(store.close)
    return Gate(store, share=settings.limits_share)
