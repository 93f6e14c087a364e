from collections.abc import AsyncGenerator
from contextlib import aclosing

from quartet.gateway.v1 import gateway_pb2
from quartet.router.v1 import router_pb2
from services.gateway.adapters.twins import PassThrough, convert
from services.gateway.domain.admission import Admission
from services.gateway.domain.catalogue import Catalogue
from services.gateway.domain.dispatch import Event
from services.gateway.domain.front import Front, Order
from services.gateway.domain.headers import NO_HEAD, Head
from services.gateway.domain.responses import EVENT_FIELDS, Resume
from services.gateway.domain.targets import AUTO, parse_target, read_target
from services.gateway.ports import Router
from services.kit.call import Call


class GatewayService:
    """`quartet.gateway.v1.GatewayService`: the native API."""

    def __init__(self, front: Front, admission: Admission, catalogue: Catalogue, router: Router) -> None:
        self._front = front
        self._admission = admission
        self._catalogue = catalogue
        hand = PassThrough(front)
        self.record_outcome = hand.unary(
            "RecordOutcome",
            router.record_outcome,
            router_pb2.RecordOutcomeRequest,
            gateway_pb2.RecordOutcomeResponse,
        )
        self.compare_policies = hand.unary(
            "ComparePolicies",
            router.compare_policies,
            router_pb2.ComparePoliciesRequest,
            gateway_pb2.ComparePoliciesResponse,
        )

    async def generate(
        self, request: gateway_pb2.GenerateRequest, call: Call
    ) -> gateway_pb2.GenerateResponse:
        caller = await self._front.enter(call, "Generate")
        answer = await self._front.answer(caller, _read(request.generation))
        return gateway_pb2.GenerateResponse(
            decision=answer.decision,
            completion=answer.completion,
            trace_id=answer.head.trace_id,
            stages=answer.stages,
            run=answer.run,
        )

    async def stream_generate(
        self, request: gateway_pb2.StreamGenerateRequest, call: Call
    ) -> AsyncGenerator[gateway_pb2.StreamGenerateResponse]:
        caller = await self._front.enter(call, "StreamGenerate")
        resume = Resume(request.resumable, request.from_event_number)
        number = max(1, request.from_event_number)
        head = NO_HEAD
        async with aclosing(self._front.stream(caller, _read(request.generation), resume)) as events:
            async for event in events:
                if isinstance(event, Head):
                    head = event
                    continue
                yield _response(event, number, head)
                number += 1

    async def embed(self, request: gateway_pb2.EmbedRequest, call: Call) -> gateway_pb2.EmbedResponse:
        caller = await self._front.enter(call, "Embed")
        vectors = await self._front.embed(caller, convert(request, router_pb2.EmbedRequest))
        return convert(vectors.response, gateway_pb2.EmbedResponse)

    async def count_tokens(
        self, request: gateway_pb2.CountTokensRequest, call: Call
    ) -> gateway_pb2.CountTokensResponse:
        caller = await self._front.enter(call, "CountTokens")
        name = request.model or AUTO.kind.value
        prompt = router_pb2.Prompt(messages=request.messages, spec=request.spec)
        with self._front.hold(caller):
            await self._catalogue.check_name(name, caller.key, caller.outgoing())
            count = await self._admission.count_prompt(caller, parse_target(name), prompt)
        return gateway_pb2.CountTokensResponse(
            input_tokens=count.tokens, exact=count.exact, vocabulary=count.vocabulary
        )

    async def explain_route(
        self, request: gateway_pb2.ExplainRouteRequest, call: Call
    ) -> gateway_pb2.ExplainRouteResponse:
        caller = await self._front.enter(call, "ExplainRoute")
        order = _read(request.generation)
        decision = await self._front.explain(caller, order)
        return gateway_pb2.ExplainRouteResponse(decision=decision, input_tokens=order.prompt.input_tokens)

    async def list_models(
        self, _: gateway_pb2.ListModelsRequest, call: Call
    ) -> gateway_pb2.ListModelsResponse:
        caller = await self._front.enter(call, "ListModels")
        models = await self._catalogue.list_models(caller.key, caller.outgoing())
        return gateway_pb2.ListModelsResponse(models=models)


def _read(generation: gateway_pb2.Generation) -> Order:
    """The order in a native request. The account is ours to name, whatever a client writes there."""
    prompt = router_pb2.Prompt(
        messages=generation.messages,
        spec=generation.spec,
        budget=generation.budget,
        idempotency_key=generation.idempotency_key,
        session=generation.session,
        labels=generation.labels,
        priority=generation.priority,
    )
    prompt.budget.ClearField("account_id")
    return Order(read_target(generation.target), prompt)


def _response(event: Event, number: int, head: Head) -> gateway_pb2.StreamGenerateResponse:
    response = gateway_pb2.StreamGenerateResponse(event_number=number)
    getattr(response, EVENT_FIELDS[type(event)]).CopyFrom(event)
    if number == 1:
        response.trace_id = head.trace_id
    return response
