"""Builds the router out of its settings: the only place that knows every adapter."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from psycopg_pool import AsyncConnectionPool

from quartet.router.v1 import router_pb2
from services.kit import telemetry
from services.kit.accounts.store import Accounts
from services.kit.binding import Binding
from services.kit.errors import Unavailable
from services.kit.settings import SettingsError
from services.router.adapters.anthropic.provider import DEFAULT_BASE_URL as ANTHROPIC_URL
from services.router.adapters.anthropic.provider import AnthropicProvider
from services.router.adapters.config.models import ServerAddress, read_models
from services.router.adapters.config.routes import read_routes
from services.router.adapters.extractive.provider import ExtractiveProvider
from services.router.adapters.http.client import HttpClient
from services.router.adapters.http.dialing import Dialer, Egress
from services.router.adapters.local_embeddings import LocalEmbeddings
from services.router.adapters.metered import Instruments, MeteredEmbedder, MeteredProvider
from services.router.adapters.minilm.embedder import MiniLMEmbedder
from services.router.adapters.openai.provider import DEFAULT_BASE_URL as OPENAI_URL
from services.router.adapters.openai.provider import OpenAIProvider
from services.router.adapters.postgres.journal import DECISIONS, LEDGER, PostgresJournal
from services.router.adapters.postgres.outcomes import TIMEOUT_S, PostgresOutcomes
from services.router.adapters.postgres.questions import PostgresQuestions
from services.router.adapters.postgres.retention import PostgresRetention
from services.router.adapters.postgres.tenant_data import PostgresTenantData
from services.router.adapters.redis.answers import RedisAnswers
from services.router.adapters.redis.cache import RedisCache
from services.router.adapters.redis.limits import RedisLimits
from services.router.adapters.transport import COMMON_HEADERS, NO_KEY, Patience, Transport
from services.router.domain.account import Drawing
from services.router.domain.answering import Answering
from services.router.domain.breaker import BreakerPolicy
from services.router.domain.cached_answering import CachedAnswering
from services.router.domain.cascading import Cascading
from services.router.domain.catalogue import LOCAL, Dialect, ProviderState
from services.router.domain.decision import Decider
from services.router.domain.decision_log import DecisionLog
from services.router.domain.embedding import Embedding
from services.router.domain.fleet import Fleet
from services.router.domain.lengths import OutputLengths
from services.router.domain.limits import Gate
from services.router.domain.once import Once
from services.router.domain.retrying import RetryBudget, Retrying, RetryPolicy
from services.router.domain.semantic import SemanticCache
from services.router.learned.learned import Learned
from services.router.service import RouterService
from services.router.settings import Settings, read_secret

if TYPE_CHECKING:
    from services.router.domain.ledger import Entry
    from services.router.ports import EmbeddingProvider, ModelProvider

SERVICE = router_pb2.DESCRIPTOR.services_by_name["RouterService"].full_name

log = logging.getLogger(__name__)


@asynccontextmanager
async def build(
    settings: Settings, peers: Mapping[str, object] | None = None
) -> AsyncIterator[list[Binding]]:
    """The router's bindings, for as long as the context lasts; it has no peers.

    Raises SettingsError when a configuration file is wrong or a provider's address is this suite's own edge.
    """
    del peers
    catalogue, servers = read_models(settings.config_dir / "models.yaml")
    routes = read_routes(settings.config_dir / "routes.yaml", catalogue)
    _check_addresses(settings, servers)
    async with AsyncExitStack() as stack:
        database = _Database(settings, stack)
        await database.open()
        baseline = catalogue.find(routes.baseline).prices
        instruments = Instruments(telemetry.tracer(), telemetry.meter(), database.ledger, baseline)
        providers = _Providers(stack, instruments, settings)
        providers.add_openai(
            "openai",
            settings.openai_base_url,
            settings.openai_api_key,
            missing=("OPENAI_API_KEY", "OPENAI_BASE_URL"),
        )
        providers.add_anthropic(
            "anthropic",
            settings.anthropic_base_url,
            settings.anthropic_api_key,
            missing=("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
        )
        for server in servers:
            key = read_secret(server.api_key_variable) if server.api_key_variable else ""
            missing = (server.api_key_variable,) if server.api_key_variable and not key else ()
            add = providers.add_anthropic if server.dialect is Dialect.ANTHROPIC else providers.add_openai
            add(server.name, server.base_url, key, missing=missing)
        embedder = await providers.add_local(settings)
        fleet = providers.fleet = Fleet(
            catalogue,
            {*providers.models, *providers.embedders},
            _breaker_policy(settings),
            gate=_gate(settings, stack),
            note=instruments.note_change,
        )
        retrying = Retrying(
            fleet,
            RetryPolicy(max_retries=settings.max_retries),
            RetryBudget(share=settings.retry_share, min_per_s=settings.min_retries_per_s),
        )
        once: Once | None = None
        if settings.redis_url:
            answers = RedisAnswers(settings.redis_url)
            stack.push_async_callback(answers.close)
            once = Once(answers, max_detached=settings.max_detached, timeout_s=settings.detached_timeout_s)
            stack.push_async_callback(once.close)
        learned = await asyncio.to_thread(Learned.load)
        lengths = OutputLengths()
        decider = Decider(
            catalogue,
            routes,
            providers.states,
            _today,
            fleet=fleet,
            judge=learned,
            calibration=learned.calibration,
            lengths=lengths,
        )
        if database.outcomes is not None:
            calibrating = asyncio.create_task(
                _keep_calibrated(decider, database.outcomes, settings.calibration_interval_s)
            )
            stack.push_async_callback(_end, calibrating)
        drawing = Drawing(await _open_accounts(settings, stack))
        service = RouterService(
            catalogue=catalogue,
            routes=routes,
            decider=decider,
            answering=_with_cache(
                settings,
                stack,
                Cascading(Answering(providers.models, retrying, lengths, drawing)),
                instruments,
                database,
                embedder,
            ),
            embedding=Embedding(providers.embedders, retrying, drawing),
            once=once,
            decisions=database.decisions,
            outcomes=database.outcomes,
            tenant_data=database.tenant_data,
        )
        yield [Binding(SERVICE, service)]


class _Providers:
    """The providers while they are being collected; the stack closes them."""

    def __init__(self, stack: AsyncExitStack, instruments: Instruments, settings: Settings) -> None:
        self._stack = stack
        self._instruments = instruments
        self._egress = Egress(proxy=settings.https_proxy, direct=settings.no_proxy)
        self._connect_timeout_s = settings.connect_timeout_s
        self._patience = Patience(
            first_token_s=settings.first_token_timeout_s,
            between_tokens_s=settings.between_tokens_timeout_s,
            max_answer_bytes=settings.max_answer_bytes,
        )
        self.fleet: Fleet | None = None
        """Is told, once it is there, what providers say of their limits."""
        self.states: dict[str, ProviderState] = {}
        self.models: dict[str, ModelProvider] = {}
        self.embedders: dict[str, EmbeddingProvider] = {}

    def add_openai(self, name: str, base_url: str, api_key: str, *, missing: tuple[str, ...]) -> None:
        if missing and (api_key or (base_url and name == "openai")):
            missing = ()
        self.states[name] = ProviderState(name=name, dialect=Dialect.OPENAI, missing=missing)
        if not missing:
            provider = OpenAIProvider(self._connect(name, base_url or OPENAI_URL, api_key))
            self.models[name] = MeteredProvider(provider, self._instruments)
            self.embedders[name] = MeteredEmbedder(provider, self._instruments)

    def add_anthropic(self, name: str, base_url: str, api_key: str, *, missing: tuple[str, ...]) -> None:
        if missing and (api_key or (base_url and name == "anthropic")):
            missing = ()
        self.states[name] = ProviderState(name=name, dialect=Dialect.ANTHROPIC, missing=missing)
        if not missing:
            provider = AnthropicProvider(self._connect(name, base_url or ANTHROPIC_URL, api_key))
            self.models[name] = MeteredProvider(provider, self._instruments)

    def _connect(self, name: str, url: str, api_key: str) -> Transport:
        dialer = Dialer(url, connect_timeout_s=self._connect_timeout_s, egress=self._egress)
        headers = {**COMMON_HEADERS, "authorization": f"Bearer {api_key or NO_KEY}"}

        def note_rest(model: str, rest_s: float) -> None:
            if self.fleet is not None:
                self.fleet.throttle(model, name, rest_s)

        client = HttpClient(url, dialer, headers)
        transport = Transport(client, self._patience, provider=name, note_rest=note_rest)
        self._stack.push_async_callback(transport.close)
        return transport

    async def add_local(self, settings: Settings) -> MiniLMEmbedder:
        embedder = MiniLMEmbedder(settings.artifacts_dir / "minilm", threads=settings.embedder_threads)
        self._stack.push_async_callback(embedder.close)
        try:
            await embedder.start()
        except Unavailable as error:
            log.error("the local embedding model cannot be used: %s", error)
        self.states[LOCAL] = ProviderState(name=LOCAL, dialect=Dialect.LOCAL)
        self.models[LOCAL] = MeteredProvider(ExtractiveProvider(embedder), self._instruments)
        self.embedders[LOCAL] = MeteredEmbedder(LocalEmbeddings(embedder), self._instruments)
        return embedder


class _Database:
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
        pool = AsyncConnectionPool(
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
        self._stack.push_async_callback(_end, retention)

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


def _with_cache(
    settings: Settings,
    stack: AsyncExitStack,
    answering: Cascading,
    instruments: Instruments,
    database: _Database,
    embedder: MiniLMEmbedder,
) -> Cascading | CachedAnswering:
    """The models behind the cache; without Redis there is none."""
    if not settings.redis_url:
        return answering
    store = RedisCache(settings.redis_url, timeout_s=settings.cache_timeout_s)
    stack.push_async_callback(store.close)
    semantic = SemanticCache(database.questions, embedder) if database.questions is not None else None
    cached = CachedAnswering(
        answering, store, semantic, instruments.note_hit, flight_timeout_s=settings.detached_timeout_s
    )
    stack.push_async_callback(cached.close)
    return cached


async def _keep_calibrated(decider: Decider, outcomes: PostgresOutcomes, interval_s: float) -> None:
    """Takes over the newest calibration, for as long as the router runs; a lost database changes nothing."""
    while True:
        try:
            decider.calibration = await outcomes.newest() or decider.calibration
        except Unavailable as error:
            log.warning("the newest calibration cannot be read: %s", error)
        await asyncio.sleep(interval_s)


async def _open_accounts(settings: Settings, stack: AsyncExitStack) -> Accounts | None:
    if not settings.redis_url:
        return None
    accounts = Accounts(
        settings.redis_url, ttl_s=settings.account_ttl_s, timeout_s=settings.account_timeout_s
    )
    stack.push_async_callback(accounts.shut)
    await accounts.start()
    return accounts


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _gate(settings: Settings, stack: AsyncExitStack) -> Gate:
    if not settings.redis_url:
        return Gate()
    store = RedisLimits(settings.redis_url, timeout_s=settings.limits_timeout_s)
    stack.push_async_callback(store.close)
    return Gate(store, share=settings.limits_share)


def _breaker_policy(settings: Settings) -> BreakerPolicy:
    return BreakerPolicy(
        consecutive_failures=settings.breaker_failures,
        error_rate=settings.breaker_error_rate,
        min_calls=settings.breaker_min_calls,
        window_s=settings.breaker_window_s,
        cooldown_s=settings.breaker_cooldown_s,
        max_cooldown_s=settings.breaker_max_cooldown_s,
    )


def _check_addresses(settings: Settings, servers: tuple[ServerAddress, ...]) -> None:
    named = {
        "OPENAI_BASE_URL": settings.openai_base_url,
        "ANTHROPIC_BASE_URL": settings.anthropic_base_url,
        **{f"models.yaml, server {server.name}": server.base_url for server in servers},
    }
    for name, url in named.items():
        if url and settings.is_own_edge(url):
            raise SettingsError(f"{name} is this suite's own address: name a model provider's instead")


def _today() -> date:
    return datetime.now(UTC).date()
