"""Builds the router out of its settings; the rest of the wiring stands in `wiring_*.py` beside it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, date, datetime

from quartet.router.v1 import router_pb2
from services.kit import telemetry
from services.kit.binding import Binding
from services.kit.errors import Unavailable
from services.kit.tasks import end
from services.router.adapters.config.models import read_models
from services.router.adapters.config.routes import read_routes
from services.router.adapters.metered import Instruments
from services.router.adapters.postgres.outcomes import PostgresOutcomes
from services.router.domain.account import Drawing
from services.router.domain.answering import Answering
from services.router.domain.asking import Asker
from services.router.domain.breaker import Breaker
from services.router.domain.cached_embedding import CachedEmbedding
from services.router.domain.cascading import Cascading
from services.router.domain.classifying import Classifying
from services.router.domain.decision import Decider
from services.router.domain.embedding import Embedding
from services.router.domain.fleet import Fleet
from services.router.domain.judgement import Remembering
from services.router.domain.lengths import OutputLengths
from services.router.domain.retrying import RetryBudget, Retrying, RetryPolicy
from services.router.domain.routes import RouteTable
from services.router.learned.learned import Learned
from services.router.service import RouterService
from services.router.settings import Settings
from services.router.wiring_providers import Providers, breaker_policy, check_addresses
from services.router.wiring_stores import (
    Database,
    open_accounts,
    open_gate,
    open_once,
    open_sessions,
    open_vectors,
    with_cache,
)

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
    # In a thread: rules that name languages take seconds to load.
    routes = await asyncio.to_thread(read_routes, settings.config_dir / "routes.yaml", catalogue)
    check_addresses(settings, servers)
    async with AsyncExitStack() as stack:
        database = Database(settings, stack)
        await database.open()
        baseline = catalogue.find(routes.baseline).prices
        instruments = Instruments(telemetry.tracer(), telemetry.meter(), database.ledger, baseline)
        providers = Providers(stack, instruments, settings)
        await providers.add_remote(servers)
        embedder = await providers.add_local()
        fleet = providers.fleet = Fleet(
            catalogue,
            {*providers.models, *providers.embedders},
            breaker_policy(settings),
            gate=open_gate(settings, stack),
            note=instruments.note_change,
        )
        retrying = Retrying(
            fleet,
            RetryPolicy(max_retries=settings.max_retries),
            RetryBudget(share=settings.retry_share, min_per_s=settings.min_retries_per_s),
        )
        learned = await asyncio.to_thread(Learned.load)
        lengths = OutputLengths()
        decider = Decider(
            catalogue,
            routes,
            providers.states,
            _today,
            fleet=fleet,
            judge=Remembering(learned),
            calibration=learned.calibration,
            lengths=lengths,
        )
        if database.outcomes is not None:
            calibrating = asyncio.create_task(
                _keep_calibrated(decider, database.outcomes, settings.calibration_interval_s)
            )
            stack.push_async_callback(end, calibrating)
        drawing = Drawing(await open_accounts(settings, stack))
        service = RouterService(
            catalogue=catalogue,
            routes=routes,
            decider=decider,
            classifying=Classifying(
                decider, _make_asker(settings, routes, decider, providers, fleet, drawing)
            ),
            answering=with_cache(
                settings,
                stack,
                Cascading(Answering(providers.models, retrying, lengths, drawing)),
                instruments,
                database,
                embedder,
            ),
            embedding=CachedEmbedding(
                Embedding(providers.embedders, retrying, drawing),
                open_vectors(settings, stack),
                instruments.note_vectors,
            ),
            once=open_once(settings, stack),
            sessions=open_sessions(settings, routes, stack),
            decisions=database.decisions,
            outcomes=database.outcomes,
            tenant_data=database.tenant_data,
        )
        yield [Binding(SERVICE, service)]


def _make_asker(
    settings: Settings,
    routes: RouteTable,
    decider: Decider,
    providers: Providers,
    fleet: Fleet,
    drawing: Drawing,
) -> Asker | None:
    """What asks a model where the tables are not sure; None where routes.yaml names none."""
    if routes.labelling is None:
        return None
    breaker = Breaker(
        breaker_policy(settings),
        time.monotonic,
        lambda state: log.warning("the breaker of the model that names routes is %s", state),
    )
    once = Retrying(fleet, RetryPolicy(max_retries=0))
    answering = Answering(providers.models, once, drawing=drawing)
    return Asker(routes.labelling, decider.find_ready, answering, breaker)


async def _keep_calibrated(decider: Decider, outcomes: PostgresOutcomes, interval_s: float) -> None:
    """Takes over the newest calibration, for as long as the router runs; a lost database changes nothing."""
    while True:
        try:
            decider.calibration = await outcomes.newest() or decider.calibration
        except Unavailable as error:
            log.warning("the newest calibration cannot be read: %s", error)
        await asyncio.sleep(interval_s)


def _today() -> date:
    return datetime.now(UTC).date()
