import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from quartet.gateway.v1 import (
    anthropic_pb2,
    document_pb2,
    gateway_pb2,
    key_pb2,
    openai_pb2,
    run_pb2,
    tenant_pb2,
)
from quartet.orchestrator.v1 import orchestrator_pb2
from quartet.pipeline.v1 import pipeline_pb2
from quartet.router.v1 import router_pb2
from services.gateway.adapters.jwt.key_set import KeySet
from services.gateway.adapters.jwt.key_sources import key_source
from services.gateway.adapters.jwt.tokens import Issuer, JwtReader, read_algorithms
from services.gateway.adapters.limits_file import read_limits
from services.gateway.adapters.postgres.audit import PostgresAudit
from services.gateway.adapters.postgres.key_register import PostgresKeyRegister
from services.gateway.adapters.postgres.keys import LOOKUP_TIMEOUT_S, PostgresKeys
from services.gateway.adapters.postgres.tenant_register import PostgresTenantRegister
from services.gateway.adapters.postgres.usage import PostgresUsage
from services.gateway.adapters.redis.response_log import RedisResponseLog
from services.gateway.adapters.redis.tenant_entries import RedisTenantEntries
from services.gateway.adapters.vocabularies import counter_of
from services.gateway.adapters.watched_router import WatchedRouter
from services.gateway.domain.admission import Admission
from services.gateway.domain.capacity import Bounds, Capacity
from services.gateway.domain.catalogue import Catalogue
from services.gateway.domain.dispatch import Dispatcher
from services.gateway.domain.front import Front
from services.gateway.domain.identification import Identification
from services.gateway.domain.models import Models
from services.gateway.domain.quotas import Quotas
from services.gateway.domain.response_log import ResponseLog
from services.gateway.domain.responses import Responses
from services.gateway.domain.tenant_removal import Removal
from services.gateway.domain.tokens.counter import TokenCounter
from services.gateway.domain.tokens.counting import Vocabulary
from services.gateway.domain.tokens.gauge import TokenGauge
from services.gateway.domain.vigil import Vigil
from services.gateway.ports import (
    Accounts,
    Audit,
    Jwts,
    KeyRegister,
    Keys,
    Orchestrator,
    Pipeline,
    Router,
    TenantEntries,
    TenantRegister,
    Usage,
)
from services.gateway.service import GatewayService
from services.gateway.service_anthropic import AnthropicService
from services.gateway.service_documents import DocumentService
from services.gateway.service_keys import KeyService
from services.gateway.service_openai import OpenAIService
from services.gateway.service_runs import RunService
from services.gateway.service_tenants import TenantService
from services.gateway.settings import Settings
from services.kit import telemetry
from services.kit.accounts.store import Accounts as RedisAccounts
from services.kit.binding import Binding
from services.kit.client import local, remote
from services.kit.errors import QuartetError
from services.kit.postgres import Pool
from services.kit.settings import SettingsError
from services.kit.tasks import end, report_end

ROUTER = router_pb2.DESCRIPTOR.services_by_name["RouterService"].full_name
PIPELINE = pipeline_pb2.DESCRIPTOR.services_by_name["PipelineService"].full_name
ORCHESTRATOR = orchestrator_pb2.DESCRIPTOR.services_by_name["OrchestratorService"].full_name
_NATIVE = gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"]
KEYS = key_pb2.DESCRIPTOR.services_by_name["KeyService"].full_name
TENANTS = tenant_pb2.DESCRIPTOR.services_by_name["TenantService"].full_name

PRUNE_S = 3600.0
"""Between two removals of what is too old."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What is kept of keys and tenants, beside what each call looks up."""

    keys: KeyRegister
    tenants: TenantRegister
    audit: Audit
    usage: Usage
    entries: TenantEntries | None = None


@asynccontextmanager
async def build(settings: Settings, peers: Mapping[str, object] = {}) -> AsyncIterator[list[Binding]]:
    """The gateway's bindings with all behind them; `peers` are services in this process, by full name."""
    async with AsyncExitStack() as stack:
        for vocabulary in Vocabulary:
            await asyncio.to_thread(counter_of, vocabulary)
        pool = await stack.enter_async_context(_pool(settings))

        responses = await _open_response_log(settings, stack)

        def peer(name: str, address: str) -> Any:
            if name in peers:
                return local(name, peers[name])
            client = remote(name, address)
            stack.push_async_callback(client.close)
            return client

        capacity = _capacity(settings)
        keys = PostgresKeys(pool)
        vigil = Vigil(keys)
        audit = PostgresAudit(pool)
        watches = {"capacity": capacity.watch(), "vigil": vigil.watch()}
        if settings.audit_retention_days is not None:
            watches["audit"] = _prune(audit, timedelta(days=settings.audit_retention_days))
        for name, watch in watches.items():
            watching = asyncio.create_task(watch, name=name)
            watching.add_done_callback(report_end)
            stack.push_async_callback(end, watching)
        router = peer(ROUTER, settings.router_address)
        models = Models(router)
        stack.push_async_callback(models.close)
        yield assemble(
            settings,
            keys,
            router,
            peer(PIPELINE, settings.pipeline_address),
            peer(ORCHESTRATOR, settings.orchestrator_address),
            models=models,
            responses=responses,
            records=Records(
                keys=PostgresKeyRegister(pool),
                tenants=PostgresTenantRegister(pool),
                audit=audit,
                usage=PostgresUsage(pool),
                entries=_tenant_entries(settings, stack),
            ),
            capacity=capacity,
            vigil=vigil,
            jwts=_open_jwts(settings, stack),
            accounts=await _open_accounts(settings, stack),
        )


def assemble(
    settings: Settings,
    keys: Keys,
    router: Router,
    pipeline: Pipeline,
    orchestrator: Orchestrator,
    *,
    models: Models | None = None,
    responses: ResponseLog | None = None,
    records: Records | None = None,
    capacity: Capacity | None = None,
    vigil: Vigil | None = None,
    jwts: Jwts | None = None,
    accounts: Accounts | None = None,
) -> list[Binding]:
    """The bindings on given neighbours; `KeyService` and `TenantService` only with records.

    Capacity and vigil do nothing by themselves: their owner has them watch.
    """
    capacity = capacity or _capacity(settings)
    router = WatchedRouter(router, capacity, first_event_s=settings.first_event_s)
    models = models or Models(router)
    gauge = TokenGauge(TokenCounter(counter_of), models)
    rules = read_limits(settings.config_dir)
    admission = Admission(Identification(keys, jwts), gauge, rules.key_defaults)
    catalogue = Catalogue(router, pipeline, models)
    front = Front(
        admission,
        Dispatcher(router, pipeline, orchestrator),
        capacity,
        Responses(responses),
        vigil or Vigil(keys),
        Quotas(accounts, models, rules),
        unary_timeout_s=settings.unary_timeout_s,
        stream_timeout_s=settings.stream_timeout_s,
    )
    services = {
        _NATIVE: GatewayService(front, admission, catalogue, router),
        document_pb2.DESCRIPTOR.services_by_name["DocumentService"]: DocumentService(front, pipeline),
        run_pb2.DESCRIPTOR.services_by_name["RunService"]: RunService(front, orchestrator),
        openai_pb2.DESCRIPTOR.services_by_name["OpenAIService"]: OpenAIService(front, catalogue),
        anthropic_pb2.DESCRIPTOR.services_by_name["AnthropicService"]: AnthropicService(
            front, admission, catalogue
        ),
    }
    drains = {_NATIVE: responses.drain} if responses is not None else {}
    bindings = [
        Binding(contract.full_name, service, public=True, drain=drains.get(contract))
        for contract, service in services.items()
    ]
    if records is not None:
        keeping = KeyService(front, records.keys, records.usage, records.audit)
        removal = Removal(records.tenants, router, pipeline, orchestrator, records.entries)
        bindings += [
            Binding(KEYS, keeping, public=True),
            Binding(TENANTS, TenantService(front, records.tenants, removal), public=True),
        ]
    return bindings


async def _prune(audit: PostgresAudit, age: timedelta) -> None:
    while True:
        try:
            await audit.prune(age)
        except QuartetError as error:
            log.warning("old entries of the audit log cannot be removed", extra={"cause": error.message})
        await asyncio.sleep(PRUNE_S)


def _open_jwts(settings: Settings, stack: AsyncExitStack) -> JwtReader | None:
    if not settings.jwt_issuer:
        return None
    try:
        source = key_source(settings.jwt_key_set)
    except ValueError as error:
        raise SettingsError(f"GATEWAY_JWT_KEY_SET: {error}") from None
    try:
        algorithms = read_algorithms(settings.jwt_algorithms)
    except ValueError as error:
        raise SettingsError(f"GATEWAY_JWT_ALGORITHMS: {error}") from None
    keys = KeySet(source, refresh_s=settings.jwt_refresh_s)
    stack.push_async_callback(keys.close)
    # Not waited for: an issuer that is away now may be there when its first token comes.
    keys.refresh()
    issuer = Issuer(
        name=settings.jwt_issuer,
        audience=settings.jwt_audience,
        algorithms=algorithms,
        leeway=timedelta(seconds=settings.jwt_leeway_s),
        tenant_claim=settings.jwt_tenant_claim,
        scope_claim=settings.jwt_scope_claim,
        scope_prefix=settings.jwt_scope_prefix,
    )
    return JwtReader(issuer, keys)


async def _open_accounts(settings: Settings, stack: AsyncExitStack) -> RedisAccounts | None:
    if not settings.redis_url:
        log.warning("limits are counted by each process alone, or refuse: REDIS_URL is not set")
        return None
    accounts = RedisAccounts(
        settings.redis_url, ttl_s=settings.account_ttl_s, timeout_s=settings.account_timeout_s
    )
    stack.push_async_callback(accounts.shut)
    await accounts.start()
    return accounts


def _tenant_entries(settings: Settings, stack: AsyncExitStack) -> TenantEntries | None:
    if not settings.redis_url:
        return None
    entries = RedisTenantEntries(settings.redis_url)
    stack.push_async_callback(entries.close)
    return entries


def _capacity(settings: Settings) -> Capacity:
    return Capacity(Bounds(least=settings.min_calls, most=settings.max_calls), telemetry.meter())


async def _open_response_log(settings: Settings, stack: AsyncExitStack) -> ResponseLog | None:
    if not settings.redis_url:
        log.warning("idempotency keys and resumable streams are refused: REDIS_URL is not set")
        return None
    store = RedisResponseLog(settings.redis_url, claim_timeout_s=settings.response_log_timeout_s)
    stack.push_async_callback(store.close)
    responses = ResponseLog(
        store,
        max_detached=settings.max_detached,
        timeout_s=settings.detached_timeout_s,
        max_bytes=settings.response_log_max_bytes,
    )
    stack.push_async_callback(responses.close)
    return responses


@asynccontextmanager
async def _pool(settings: Settings) -> AsyncIterator[Pool]:
    if not settings.database_url:
        raise SettingsError("DATABASE_URL: is not set; the gateway keeps its API keys there")
    pool = Pool(
        settings.database_url,
        min_size=1,
        max_size=settings.database_connections,
        timeout=LOOKUP_TIMEOUT_S,
        max_waiting=256,
        open=False,
        kwargs={"autocommit": True, "options": f"-c statement_timeout={round(LOOKUP_TIMEOUT_S * 1000)}"},
        check=Pool.check_connection,
    )
    # Not waited for: a database that comes later is found when the first key is looked up.
    async with pool:
        yield pool
