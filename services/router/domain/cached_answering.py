"""Looks for an answer before a model is asked: under way now, given before, or given to another wording."""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from functools import partial
from typing import TypeVar

from quartet.common.v1 import decision_pb2 as pb
from quartet.common.v1.decision_pb2 import Decision
from quartet.common.v1.generation_pb2 import Completion, Delta
from quartet.router.v1.router_pb2 import Prompt
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.router.domain.cascading import Cascading
from services.router.domain.failures import CALLERS_OWN
from services.router.domain.flights import Finish, Flight, Flights, Start
from services.router.domain.kept_answers import KeptAnswers, Request
from services.router.domain.plan import Plan, revise
from services.router.domain.recording import Recording
from services.router.domain.semantic import SemanticCache
from services.router.ports import TenantCache

Whole = tuple[Decision, Completion]
Event = Decision | Delta | Completion
NoteHit = Callable[[Plan, Completion, str, Call], None]
"""Is told of every answer that cost nothing: the plan, the answer as it was first given, the run."""

T = TypeVar("T", Whole, Event)
M = TypeVar("M", Decision, Completion)


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
        self._kept = KeptAnswers(store, semantic)
        self._note_hit = note_hit
        self._answers: Flights[Whole] = Flights(timeout_s=flight_timeout_s)
        self._streams: Flights[Event] = Flights(timeout_s=flight_timeout_s)

    async def close(self) -> None:
        """Cancels shared answers that are under way."""
        await self._answers.close()
        await self._streams.close()

    async def answer(self, prompt: Prompt, plan: Plan, call: Call) -> Whole:
        """The answer, and the decision as it turned out; raises as `Cascading.answer`."""
        request = self._kept.admit(prompt, plan, call)
        if request is None:
            return await self._answering.answer(prompt, plan, call)
        keep = partial(self._kept.keep_answer, request)
        while request.permission.may_read:
            flight, kept = await self._look(request, self._answers)
            if kept is not None:
                return self._reuse(request, kept.completion)
            flying = self._board(request, self._answers, flight, self._make, keep)
            if flying is None:
                break
            async with aclosing(flying) as answers:
                async for answered in answers:
                    return answered
            _check_time(request)
        # A fresh answer is shared with nobody, and kept before it is given: what is asked next finds it.
        plan.decision.cache = pb.CACHE_OUTCOME_MISS
        decision, completion = await self._answering.answer(prompt, plan, call)
        await self._kept.keep(request, Recording.of_answer(completion))
        return decision, completion

    async def stream(self, prompt: Prompt, plan: Plan, call: Call) -> AsyncGenerator[Event]:
        """The decision, deltas and the completion; raises as `Cascading.stream`."""
        request = self._kept.admit(prompt, plan, call)
        if request is None:
            async with aclosing(self._answering.stream(prompt, plan, call)) as events:
                async for event in events:
                    yield event
            return
        keep = partial(self._kept.keep_stream, request)
        while request.permission.may_read:
            flight, kept = await self._look(request, self._streams)
            if kept is not None:
                for event in self._replay(request, kept):
                    yield event
                return
            flying = self._board(request, self._streams, flight, self._answering.stream, keep)
            if flying is None:
                break
            begun = False
            async with aclosing(flying) as events:
                async for event in events:
                    begun = True
                    yield event
            if begun:
                return
            _check_time(request)
        async with aclosing(self._stream_fresh(request)) as events:
            async for event in events:
                yield event

    async def _stream_fresh(self, request: Request) -> AsyncGenerator[Event]:
        """As `answer` does for a request that shares with nobody."""
        request.plan.decision.cache = pb.CACHE_OUTCOME_MISS
        heard: list[Event] = []
        stream = self._answering.stream(request.prompt, request.plan, request.call)
        async with aclosing(stream) as events:
            async for event in events:
                heard.append(event)
                yield event
        await self._kept.keep_stream(request, heard)

    def _board(
        self,
        request: Request,
        flights: Flights[T],
        flight: Flight[T] | None,
        start: Start[T],
        finish: Finish[T],
    ) -> AsyncGenerator[T] | None:
        """The events of an answer under way, which is begun where there is none.

        None where the request has to ask for itself.
        """
        leads = flight is None
        if flight is None:
            if not request.may_share():
                return None
            request.plan.decision.cache = pb.CACHE_OUTCOME_MISS
            flight = flights.begin(request.name, start, finish, request.prompt, request.plan, request.call)
        return self._ride(request, flights, flight, leads=leads)

    async def _ride(
        self, request: Request, flights: Flights[T], flight: Flight[T], *, leads: bool
    ) -> AsyncGenerator[T]:
        """The events of an answer under way; none where the means of who began it did not suffice."""
        call, begun = request.call, False
        try:
            async with aclosing(flights.read(flight, request.prompt, call)) as events:
                async for event in events:
                    if leads:
                        begun = True
                        yield event
                        continue
                    if not begun:
                        if flight.runs_short:
                            return
                        begun = True
                        call.response_headers.update(flight.call.response_headers)
                    yield self._as_shared(request, event)
        except QuartetError as error:
            if leads or begun or error.reason not in CALLERS_OWN:
                raise

    async def _look(self, request: Request, flights: Flights[T]) -> tuple[Flight[T] | None, Recording | None]:
        """An answer under way, or one given before."""
        flight = flights.find(request.name)
        if flight is not None and not flight.has_landed:
            return _boarded(request, flight), None
        recording = await self._kept.recall(request)
        if recording is not None:
            request.plan.decision.cache = pb.CACHE_OUTCOME_EXACT_HIT
            return None, recording
        recording = await self._kept.recall_other_wording(request)
        if recording is not None:
            request.plan.decision.cache = pb.CACHE_OUTCOME_SEMANTIC_HIT
            return None, recording
        # While this one looked, another may have begun, or landed with what is not kept.
        flight = flights.find(request.name)
        return None if flight is None else _boarded(request, flight), None

    async def _make(self, prompt: Prompt, plan: Plan, call: Call) -> AsyncGenerator[Whole]:
        yield await self._answering.answer(prompt, plan, call)

    def _reuse(self, request: Request, answered: Completion) -> Whole:
        """What was kept, or a copy of what another request is paying for, at no cost."""
        decision = request.plan.decision
        model = next((model for model in request.plan.models if model.id == answered.model), None)
        if model is not None:
            decision = revise(decision, model, {})
        return decision, self._at_no_cost(request, answered)

    def _replay(self, request: Request, found: Recording) -> Iterator[Event]:
        decision, completion = self._reuse(request, found.completion)
        yield decision
        yield from found.deltas
        yield _without_message(completion)

    def _as_shared(self, request: Request, event: T) -> T:
        """A copy for one of those who share."""
        match event:
            case (_, Completion() as completion):
                return self._reuse(request, _copy(completion))
            case Decision():
                shared = _copy(event)
                shared.cache = request.plan.decision.cache
                return shared
            case Completion():
                return self._at_no_cost(request, _copy(event))
        return event

    def _at_no_cost(self, request: Request, answered: Completion) -> Completion:
        """An answer of the request's own, told to have cost nothing."""
        self._note_hit(request.plan, answered, request.prompt.run_id, request.call)
        answered.usage.cost_micro_usd = 0
        answered.usage.model_calls = 0
        return answered


def _check_time(request: Request) -> None:
    """Another one's means ran out: those who are left ask together again, while they have time."""
    request.call.remaining_s()


def _copy(message: M) -> M:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _boarded(request: Request, flight: Flight[T]) -> Flight[T]:
    """The flight, with the decision saying how it came to serve."""
    landed = flight.has_landed
    request.plan.decision.cache = pb.CACHE_OUTCOME_EXACT_HIT if landed else pb.CACHE_OUTCOME_COALESCED
    return flight


def _without_message(completion: Completion) -> Completion:
    """As streams end: the message only where it adds citations to what the deltas said."""
    if not any(part.citations for part in completion.message.parts):
        completion.ClearField("message")
    return completion
