"""Looks for an answer before a model is asked: under way now, given before, or given to another wording."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from quartet.common.v1 import decision_pb2 as pb
from quartet.common.v1.decision_pb2 import Decision
from quartet.common.v1.generation_pb2 import Completion, Delta
from quartet.router.v1.router_pb2 import Prompt
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.router.domain.caching import Permission, is_worth_keeping, name_answer, permit
from services.router.domain.cascading import Cascading
from services.router.domain.flights import Flight, Flights
from services.router.domain.plan import Plan, revise
from services.router.domain.recording import MAX_BYTES, Recording
from services.router.domain.routes import Caching
from services.router.domain.semantic import Question, SemanticCache
from services.router.ports import StoreUnavailableError, TenantCache

MAX_EVENTS = 20_000
"""Of a stream; a longer one is not kept."""
_CALLERS_OWN = frozenset(("BUDGET_EXHAUSTED", "QUOTA_EXHAUSTED", "DEADLINE_EXCEEDED"))
"""Why a request failed that says nothing of others like it."""

Whole = tuple[Decision, Completion]
Event = Decision | Delta | Completion
NoteHit = Callable[[Plan, Completion, str, Call], None]
"""Is told of every answer that cost nothing: the plan, the answer as it was first given, the run."""

T = TypeVar("T", Whole, Event)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """A request that the cache may serve or learn from."""

    prompt: Prompt
    plan: Plan
    call: Call
    caching: Caching
    permission: Permission
    name: str
    question: Question | None


class CachedAnswering:
    """As `Cascading`, with a cache before it.

    Args:
        store: Where answers are kept.
        semantic: Finds other wordings; None for never.
        flight_timeout_s: How long an answer that several share may take.
    """

    def __init__(
        self,
        answering: Cascading,
        store: TenantCache,
        semantic: SemanticCache | None,
        note_hit: NoteHit,
        *,
        flight_timeout_s: float,
    ) -> None:
        self._answering = answering
        self._store = store
        self._semantic = semantic
        self._note_hit = note_hit
        self._answers: Flights[Whole] = Flights(timeout_s=flight_timeout_s)
        self._streams: Flights[Event] = Flights(timeout_s=flight_timeout_s)

    async def close(self) -> None:
        """Cancels shared answers that are under way."""
        await self._answers.close()
        await self._streams.close()

    async def answer(self, prompt: Prompt, plan: Plan, call: Call) -> Whole:
        """The answer, and the decision as it turned out; raises as `Cascading.answer`."""
        request = self._admit(prompt, plan, call)
        if request is None:
            return await self._answering.answer(prompt, plan, call)
        if not request.permission.may_read:
            # A fresh answer is shared with nobody, and kept before it is given: what is asked next finds it.
            plan.decision.cache = pb.CACHE_OUTCOME_MISS
            decision, completion = await self._answering.answer(prompt, plan, call)
            await self._keep(request, Recording.of_answer(completion))
            return decision, completion
        flight, found = await self._look(request, self._answers)
        if found is not None:
            return self._reuse(request, found.completion)
        shared = flight is not None
        if flight is None:
            plan.decision.cache = pb.CACHE_OUTCOME_MISS
            make, keep = partial(self._make, request), partial(self._keep_answer, request)
            flight = self._answers.begin(request.name, make, keep, call)
        try:
            async with aclosing(self._answers.read(flight, call)) as answers:
                async for decision, completion in answers:
                    return self._reuse(request, completion) if shared else (decision, completion)
        except QuartetError as error:
            if not shared or error.reason not in _CALLERS_OWN:
                raise
        return await self._answering.answer(prompt, plan, call)

    async def stream(self, prompt: Prompt, plan: Plan, call: Call) -> AsyncGenerator[Event]:
        """The decision, deltas and the completion; raises as `Cascading.stream`."""
        request = self._admit(prompt, plan, call)
        if request is None:
            async with aclosing(self._answering.stream(prompt, plan, call)) as events:
                async for event in events:
                    yield event
            return
        if not request.permission.may_read:
            async with aclosing(self._stream_fresh(request)) as events:
                async for event in events:
                    yield event
            return
        flight, found = await self._look(request, self._streams)
        if found is not None:
            decision, completion = self._reuse(request, found.completion)
            yield decision
            for delta in found.deltas:
                yield delta
            yield _without_message(completion)
            return
        async with aclosing(self._stream_flight(request, flight)) as events:
            async for event in events:
                yield event

    async def _stream_fresh(self, request: _Request) -> AsyncGenerator[Event]:
        """As `answer` does for a request that wants a fresh answer."""
        request.plan.decision.cache = pb.CACHE_OUTCOME_MISS
        heard: list[Event] = []
        stream = self._answering.stream(request.prompt, request.plan, request.call)
        async with aclosing(stream) as events:
            async for event in events:
                heard.append(event)
                yield event
        await self._keep_stream(request, heard)

    async def _stream_flight(self, request: _Request, found: Flight[Event] | None) -> AsyncGenerator[Event]:
        """The answer that another request began, or else one that begins now."""
        prompt, plan, call = request.prompt, request.plan, request.call
        if found is None:
            plan.decision.cache = pb.CACHE_OUTCOME_MISS
            make, keep = partial(self._answering.stream, prompt, plan), partial(self._keep_stream, request)
        flight = found or self._streams.begin(request.name, make, keep, call)
        begun = False
        try:
            async with aclosing(self._streams.read(flight, call)) as events:
                async for event in events:
                    begun = True
                    if isinstance(event, Decision):
                        call.response_headers.update(flight.call.response_headers)
                    yield self._as_shared(request, event) if found else event
            return
        except QuartetError as error:
            if begun or found is None or error.reason not in _CALLERS_OWN:
                raise
        async with aclosing(self._answering.stream(prompt, plan, call)) as events:
            async for event in events:
                yield event

    def _admit(self, prompt: Prompt, plan: Plan, call: Call) -> _Request | None:
        caching = plan.route.caching
        permission = permit(prompt, caching)
        if caching is None or not permission.may_write:
            return None
        name = name_answer(prompt, plan, call.tenant)
        question = None
        if self._semantic is not None and caching.semantic is not None:
            question = Question.of(prompt, plan, call.tenant)
        return _Request(
            prompt=prompt,
            plan=plan,
            call=call,
            caching=caching,
            permission=permission,
            name=name,
            question=question,
        )

    async def _look(
        self, request: _Request, flights: Flights[T]
    ) -> tuple[Flight[T] | None, Recording | None]:
        """An answer under way, or one given before."""
        flight = flights.find(request.name)
        if flight is not None and not flight.has_landed:
            return _boarded(request, flight), None
        recording = await self._recall(request, request.name)
        if recording is not None:
            request.plan.decision.cache = pb.CACHE_OUTCOME_EXACT_HIT
            return None, recording
        recording = await self._recall_other_wording(request)
        if recording is not None:
            request.plan.decision.cache = pb.CACHE_OUTCOME_SEMANTIC_HIT
            return None, recording
        # While this one looked, another may have begun; one that has landed is being kept just now.
        flight = flights.find(request.name)
        return None if flight is None else _boarded(request, flight), None

    async def _recall(self, request: _Request, name: str) -> Recording | None:
        try:
            data = await self._store.get(request.call.tenant, name)
            return None if data is None else Recording.from_bytes(data)
        except (StoreUnavailableError, ValueError):
            return None

    async def _recall_other_wording(self, request: _Request) -> Recording | None:
        question, least = request.question, request.caching.semantic
        if self._semantic is None or question is None or least is None:
            return None
        name = await self._semantic.find(question, least, request.call)
        return None if name is None else await self._recall(request, name)

    async def _make(self, request: _Request, call: Call) -> AsyncGenerator[Whole]:
        yield await self._answering.answer(request.prompt, request.plan, call)

    async def _keep_answer(self, request: _Request, answers: Sequence[Whole]) -> None:
        for _, completion in answers:
            await self._keep(request, Recording.of_answer(completion))

    async def _keep_stream(self, request: _Request, events: Sequence[Event]) -> None:
        end = events[-1] if events else None
        if isinstance(end, Completion) and len(events) <= MAX_EVENTS:
            deltas = [event for event in events if isinstance(event, Delta)]
            # What stands with single pieces, such as their likelihoods, no whole answer would have.
            if any('"choices":' in delta.extra.json for delta in deltas):
                return
            await self._keep(request, Recording.of_stream(deltas, end))

    async def _keep(self, request: _Request, recording: Recording) -> None:
        completion = recording.completion
        # Another model's answer, after a failure, is not what this name stands for.
        if completion.model != request.plan.due or not is_worth_keeping(completion):
            return
        data = recording.to_bytes()
        if len(data) > MAX_BYTES:
            return
        name, ttl_s = request.name, request.caching.ttl_s
        try:
            await self._store.put(request.call.tenant, name, data, ttl_s=ttl_s)
        except StoreUnavailableError:
            return
        if self._semantic is not None and request.question is not None:
            await self._semantic.keep(request.question, name, ttl_s=ttl_s)

    def _reuse(self, request: _Request, answered: Completion) -> Whole:
        """What was kept, or what another request is paying for, at no cost."""
        decision = request.plan.decision
        model = next((model for model in request.plan.models if model.id == answered.model), None)
        if model is not None:
            decision = revise(decision, model, {})
        return decision, self._at_no_cost(request, answered)

    def _as_shared(self, request: _Request, event: Event) -> Event:
        if isinstance(event, Decision):
            shared = Decision()
            shared.CopyFrom(event)
            shared.cache = request.plan.decision.cache
            return shared
        if isinstance(event, Completion):
            return self._at_no_cost(request, event)
        return event

    def _at_no_cost(self, request: _Request, answered: Completion) -> Completion:
        self._note_hit(request.plan, answered, request.prompt.run_id, request.call)
        free = Completion()
        free.CopyFrom(answered)
        free.usage.cost_micro_usd = 0
        free.usage.model_calls = 0
        return free


def _boarded(request: _Request, flight: Flight[T]) -> Flight[T]:
    """The flight, with the decision saying how it came to serve."""
    landed = flight.has_landed
    request.plan.decision.cache = pb.CACHE_OUTCOME_EXACT_HIT if landed else pb.CACHE_OUTCOME_COALESCED
    return flight


def _without_message(completion: Completion) -> Completion:
    """As streams end: the message only where it adds citations to what the deltas said."""
    if not any(part.citations for part in completion.message.parts):
        completion.ClearField("message")
    return completion
