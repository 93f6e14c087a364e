"""The methods of `quartet.router.v1.RouterService`."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, time

from quartet.common.v1.decision_pb2 import Decision
from quartet.common.v1.generation_pb2 import Delta
from quartet.common.v1.price_pb2 import LongerPrice
from quartet.router.v1 import router_pb2 as pb
from services.kit import telemetry
from services.kit.call import Call
from services.kit.errors import FailedPrecondition
from services.router.domain.cached_answering import CachedAnswering
from services.router.domain.cached_embedding import CachedEmbedding
from services.router.domain.cascading import Cascading
from services.router.domain.catalogue import Capability, Catalogue, Model
from services.router.domain.classifying import Classifying, Decided
from services.router.domain.comparison import read_period
from services.router.domain.decision import Decider
from services.router.domain.decision_log import DecisionLog
from services.router.domain.once import Once
from services.router.domain.plan import Plan
from services.router.domain.prices import Longer, TokenKind
from services.router.domain.routes import RouteTable
from services.router.domain.sessions import Sessions
from services.router.ports import Outcomes, TenantData


class RouterService:
    """Decides, calls models, and prices what they did.

    Args:
        once: Answers requests that carry an idempotency key; None leaves the key unused.
        sessions: Remembers which model a session stays on.
        decisions: Notes which tier answered; None notes nothing.
        outcomes: Keeps what people say of answers; None refuses it.
        tenant_data: Removes what is kept of tenants; None where nothing is.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        routes: RouteTable,
        decider: Decider,
        classifying: Classifying,
        answering: Cascading | CachedAnswering,
        embedding: CachedEmbedding,
        once: Once | None,
        sessions: Sessions,
        decisions: DecisionLog | None = None,
        outcomes: Outcomes | None = None,
        tenant_data: TenantData | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._routes = routes
        self._decider = decider
        self._classifying = classifying
        self._answering = answering
        self._embedding = embedding
        self._once = once
        self._sessions = sessions
        self._decisions = decisions
        self._outcomes = outcomes
        self._tenant_data = tenant_data

    async def route(self, request: pb.RouteRequest, call: Call) -> pb.RouteResponse:
        last = await self._sessions.recall(request.prompt, call)
        return pb.RouteResponse(decision=self._classifying.explain(request.prompt, last, call))

    async def generate(self, request: pb.GenerateRequest, call: Call) -> pb.GenerateResponse:
        if not request.prompt.idempotency_key or self._once is None:
            return await self._generate(request.prompt, call)
        return await self._once.answer(request, lambda own: self._generate(request.prompt, own), call)

    async def stream_generate(
        self, request: pb.StreamGenerateRequest, call: Call
    ) -> AsyncGenerator[pb.StreamGenerateResponse]:
        decided = await self._decide(request.prompt, call)
        prompt, plan = decided.prompt, decided.plan
        decision = plan.decision
        if not plan.models:
            yield pb.StreamGenerateResponse(decision=decision)
            return
        async with aclosing(self._answering.stream(prompt, plan, call)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    yield pb.StreamGenerateResponse(delta=event)
                elif isinstance(event, Decision):
                    decision = event
                    self._note(plan, event.model, call)
                    yield pb.StreamGenerateResponse(decision=event)
                else:
                    # Before the end is told: the next turn may come at once.
                    await self._sessions.note(prompt, plan, decision, event, call)
                    yield pb.StreamGenerateResponse(end=decided.charge(event))

    async def embed(self, request: pb.EmbedRequest, call: Call) -> pb.EmbedResponse:
        model = self._decider.find_embedding(request.model)
        return await self._embedding.embed(model, request, call)

    async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        del request, call
        return pb.ListModelsResponse(
            models=[self._describe(model) for model in self._catalogue],
            routes=[route.name for route in self._routes],
        )

    async def record_outcome(self, request: pb.RecordOutcomeRequest, call: Call) -> pb.RecordOutcomeResponse:
        await self._need_outcomes().keep(call.tenant, request.trace_id, request.score, request.comment)
        return pb.RecordOutcomeResponse()

    async def compare_policies(
        self, request: pb.ComparePoliciesRequest, call: Call
    ) -> pb.ComparePoliciesResponse:
        start, end = read_period(request, datetime.now(UTC))
        return pb.ComparePoliciesResponse(routes=await self._need_outcomes().compare(call.tenant, start, end))

    async def delete_tenant_data(
        self, request: pb.DeleteTenantDataRequest, call: Call
    ) -> pb.DeleteTenantDataResponse:
        del request
        deleted = await self._tenant_data.delete(call.tenant) if self._tenant_data is not None else 0
        return pb.DeleteTenantDataResponse(deleted_rows=deleted)

    def _need_outcomes(self) -> Outcomes:
        if self._outcomes is None:
            message = (
                "outcomes and decisions are not kept, because the router has no database: set DATABASE_URL"
            )
            raise FailedPrecondition(message, reason="NO_DATABASE")
        return self._outcomes

    def _note(self, plan: Plan, model: str, call: Call) -> None:
        if self._decisions is not None:
            trace_id = telemetry.current_trace_id()
            self._decisions.note(plan, model, tenant=call.tenant, trace_id=trace_id)

    async def _generate(self, prompt: pb.Prompt, call: Call) -> pb.GenerateResponse:
        decided = await self._decide(prompt, call)
        prompt, plan = decided.prompt, decided.plan
        if not plan.models:
            return pb.GenerateResponse(decision=plan.decision)
        decision, completion = await self._answering.answer(prompt, plan, call)
        self._note(plan, decision.model, call)
        await self._sessions.note(prompt, plan, decision, completion, call)
        return pb.GenerateResponse(decision=decision, completion=decided.charge(completion))

    async def _decide(self, prompt: pb.Prompt, call: Call) -> Decided:
        return await self._classifying.decide(prompt, await self._sessions.recall(prompt, call), call)

    def _describe(self, model: Model) -> pb.Model:
        unavailable = self._decider.why_unavailable(model)
        described = pb.Model(
            id=model.id,
            provider=model.provider,
            aliases=model.aliases,
            context_window=model.context_window,
            max_output_tokens=model.max_output_tokens,
            capabilities=[capability.value for capability in Capability if model.can(capability)],
            input_micro_usd_per_mtok=model.prices.per_mtok(TokenKind.INPUT),
            output_micro_usd_per_mtok=model.prices.per_mtok(TokenKind.OUTPUT),
            cached_input_micro_usd_per_mtok=model.prices.per_mtok(TokenKind.CACHED_INPUT),
            longer_prices=[_tell_longer(longer) for longer in model.prices.longer],
            successor=model.successor,
            available=not unavailable,
            unavailable_because=unavailable,
        )
        if model.shutdown is not None:
            described.shutdown_time.FromDatetime(datetime.combine(model.shutdown, time(), UTC))
        return described


def _tell_longer(longer: Longer) -> LongerPrice:
    return LongerPrice(
        above_input_tokens=longer.above_tokens,
        input_micro_usd_per_mtok=longer.prices.per_mtok(TokenKind.INPUT),
        output_micro_usd_per_mtok=longer.prices.per_mtok(TokenKind.OUTPUT),
        cached_input_micro_usd_per_mtok=longer.prices.per_mtok(TokenKind.CACHED_INPUT),
    )
