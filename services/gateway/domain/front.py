"""The way of every request for an answer or vectors, in any dialect: admitted, dispatched, told of."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import NamedTuple

from opentelemetry import trace

from quartet.common.v1 import decision_pb2, generation_pb2
from quartet.router.v1 import router_pb2
from services.gateway.domain.admission import Admission, Caller
from services.gateway.domain.capacity import PRIORITY_NAMES, Capacity, Hold, settle_priority
from services.gateway.domain.dispatch import Answer, Dispatcher, Event, RunTicket, Vectors
from services.gateway.domain.headers import (
    MODEL,
    Head,
    cache_name,
    handler_name,
    head_of,
    name_call,
    tell_adapted,
    tell_decision,
    tell_peer_headers,
    tell_vectors,
)
from services.gateway.domain.quotas import Quotas
from services.gateway.domain.responses import (
    NOT_RESUMABLE,
    Responses,
    Resume,
    read_ask,
    read_ask_for_texts,
)
from services.gateway.domain.targets import Target
from services.gateway.domain.vigil import Vigil
from services.kit import names
from services.kit.call import Call
from services.kit.errors import PermissionDenied


class Order(NamedTuple):
    """What is to be answered, and by whom."""

    target: Target
    prompt: router_pb2.Prompt


class Front:
    """Answers orders of admitted callers.

    Args:
        responses: Keeps the answers of requests that want it.
        vigil: Ends the calls whose credential ends meanwhile.
        quotas: Hold requests to the limits of key and tenant.
        unary_timeout_s: What a whole answer may take when the caller names no time.
        stream_timeout_s: The same for a streamed one.
    """

    def __init__(
        self,
        admission: Admission,
        dispatcher: Dispatcher,
        capacity: Capacity,
        responses: Responses,
        vigil: Vigil,
        quotas: Quotas,
        *,
        unary_timeout_s: float,
        stream_timeout_s: float,
    ) -> None:
        self._admission = admission
        self._dispatcher = dispatcher
        self._capacity = capacity
        self._responses = responses
        self.vigil = vigil
        self.quotas = quotas
        self._unary_timeout_s = unary_timeout_s
        self._stream_timeout_s = stream_timeout_s

    async def enter(self, call: Call, rpc: str) -> Caller:
        """Finds out who calls; raises as `Admission.enter`. Refusals bear the request's ids, too."""
        name_call(call)
        return await self._admission.enter(call, rpc)

    def hold(self, caller: Caller) -> Hold:
        """A place for a call without a prompt, by the header's priority, else the key's.

        Entering it raises Unavailable (`OVERLOADED`).

        Raises:
            PermissionDenied: the key's scopes leave the priority out.
        """
        return self._capacity.hold(_priority(caller, caller.options.priority))

    async def answer(self, caller: Caller, order: Order) -> Answer:
        """The whole answer; its headers are set."""
        with self.vigil.hold(caller), self._hold_for(caller, order.prompt):
            await self._admission.check_prompt(caller, order.target, order.prompt)
            ask = read_ask(caller, order.target, order.prompt)
            if ask is None:
                return await self._answer(caller, order)
            return await self._responses.answer(
                ask, lambda own: self._answer(replace(caller, call=own), order, ask.run_key), caller.waiting()
            )

    async def stream(
        self, caller: Caller, order: Order, resume: Resume = NOT_RESUMABLE
    ) -> AsyncGenerator[Head | Event]:
        """The answer piece by piece, behind its head; its headers are set by then."""
        with self.vigil.hold(caller), self._hold_for(caller, order.prompt):
            await self._admission.check_prompt(caller, order.target, order.prompt)
            ask = read_ask(caller, order.target, order.prompt, resume)
            served = (
                self._stream(caller, order)
                if ask is None
                else self._responses.stream(
                    ask,
                    lambda own: self._stream(replace(caller, call=own), order, ask.run_key),
                    caller.waiting(),
                )
            )
            async with aclosing(served) as events:
                async for event in events:
                    yield event

    async def embed(self, caller: Caller, request: router_pb2.EmbedRequest) -> Vectors:
        """The vectors of texts; their headers are set."""
        with self.vigil.hold(caller), self.hold(caller):
            await self._admission.check_texts(caller, request)
            ask = read_ask_for_texts(caller, request)
            if ask is None:
                return await self._embed(caller, request)
            return await self._responses.embed(
                ask, lambda own: self._embed(replace(caller, call=own), request), caller.waiting()
            )

    async def explain(self, caller: Caller, order: Order) -> decision_pb2.Decision:
        """How it would be served, without serving it."""
        with self._hold_for(caller, order.prompt):
            await self._admission.check_prompt(caller, order.target, order.prompt)
            peer_call = caller.outgoing(timeout_s=self._unary_timeout_s)
            return await self._dispatcher.explain(order.target, order.prompt, peer_call)

    def _hold_for(self, caller: Caller, prompt: router_pb2.Prompt) -> Hold:
        """A place by the body's priority, else as `hold`; the prompt bears it from here on."""
        asked = prompt.priority or caller.options.priority
        prompt.priority = _priority(caller, asked)
        return self._capacity.hold(prompt.priority)

    async def _answer(self, caller: Caller, order: Order, run_key: str = "") -> Answer:
        peer_call = caller.outgoing(timeout_s=self._unary_timeout_s)
        ticket = RunTicket(key=run_key)
        async with self.quotas.admit(caller, order.prompt, order.target.model, ticket):
            answer = await self._dispatcher.generate(order.target, order.prompt, peer_call, ticket)
        _trace(caller, answer.decision, answer.completion)
        tell_decision(caller.call, answer.decision)
        tell_adapted(caller.call, answer.completion.adapted)
        if answer.completion.model:
            caller.call.response_headers[MODEL] = answer.completion.model
        return replace(answer, head=head_of(caller.call))

    async def _stream(self, caller: Caller, order: Order, run_key: str = "") -> AsyncGenerator[Head | Event]:
        peer_call = caller.outgoing(timeout_s=self._stream_timeout_s)
        ticket = RunTicket(key=run_key)
        decision = decision_pb2.Decision()
        async with (
            self.quotas.admit(caller, order.prompt, order.target.model, ticket),
            aclosing(self._dispatcher.stream(order.target, order.prompt, peer_call, ticket)) as events,
        ):
            async for event in events:
                if isinstance(event, decision_pb2.Decision):
                    tell_decision(caller.call, event)
                    tell_peer_headers(caller.call, peer_call)
                    yield head_of(caller.call)
                    decision = event
                elif isinstance(event, generation_pb2.Completion):
                    _trace(caller, decision, event)
                yield event

    async def _embed(self, caller: Caller, request: router_pb2.EmbedRequest) -> Vectors:
        peer_call = caller.outgoing(timeout_s=self._unary_timeout_s)
        async with self.quotas.admit_texts(caller, request):
            vectors = await self._dispatcher.embed(request, peer_call)
        response = vectors.response
        tell_vectors(caller.call, response)
        span = trace.get_current_span()
        if span.is_recording():
            cost = response.usage.cost_micro_usd
            span.set_attributes({names.TENANT_ID: caller.call.tenant, names.COST_MICRO_USD: cost})
        return replace(vectors, head=head_of(caller.call))


def _priority(caller: Caller, asked: generation_pb2.Priority.ValueType) -> generation_pb2.Priority.ValueType:
    """What the key's scopes make of the priority that was asked for."""
    found = settle_priority(asked, caller.key.allows_priority)
    if found is None:
        name = PRIORITY_NAMES[asked]
        message = f"this key may not make {name} calls: leave the priority out, or use another key"
        raise PermissionDenied(message, reason="SCOPE_MISSING", metadata={"scope": f"priority:{name}"})
    return found


def _trace(caller: Caller, decision: decision_pb2.Decision, completion: generation_pb2.Completion) -> None:
    """Writes into the call's span how it was served and what it cost."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes(
            {
                names.TENANT_ID: caller.call.tenant,
                names.ROUTE: decision.route,
                names.RULE: decision.rule,
                names.INTENT: decision.intent,
                names.HANDLER: handler_name(decision.handler),
                names.CACHE: cache_name(decision.cache),
                names.COST_MICRO_USD: completion.usage.cost_micro_usd,
            }
        )
