"""A run from its first plan to its end, each move durable and recorded once."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from quartet.common.v1 import error_pb2, generation_pb2, run_pb2
from services.kit import names, telemetry
from services.kit.call import Call
from services.kit.errors import Cancelled, QuartetError, Unavailable
from services.kit.tasks import end
from services.orchestrator.domain.acting import Actor
from services.orchestrator.domain.loop import (
    Act,
    Conclude,
    MakePlan,
    max_iterations_of,
    next_move,
    stop_reason_of,
)
from services.orchestrator.domain.planning import Planning
from services.orchestrator.domain.progress import Progress
from services.orchestrator.domain.synthesis import conclude
from services.orchestrator.ports import Charge, Durable, Journal, Outcome, Signals

AGENT = "quartet"
ATTEMPTS = 4
FIRST_BACKOFF_S, MAX_BACKOFF_S = 0.5, 5.0
CANCEL_LOOK_S = 1.0
"""How often a step under way looks for its cancellation when no signal comes."""

_STATES = {
    run_pb2.STOP_REASON_CANCELLED: run_pb2.RUN_STATE_CANCELLED,
    run_pb2.STOP_REASON_ERROR: run_pb2.RUN_STATE_FAILED,
}


class Course:
    """Carries runs out: asks for the next move, makes it, records it, until a move concludes."""

    def __init__(self, planning: Planning, actor: Actor, journal: Journal, signals: Signals) -> None:
        self._planning = planning
        self._actor = actor
        self._journal = journal
        self._signals = signals

    async def follow(self, charge: Charge, durable: Durable) -> None:
        """Carries a run out to its end; after a crash the same call goes on after the last recorded move."""
        task = charge.run.task
        progress = Progress(task=task, max_iterations=max_iterations_of(task))
        log = _Log(charge, self._journal, durable)
        while True:
            move = next_move(progress)
            if isinstance(move, Conclude):
                break
            progress = await self._make(move, charge, progress, log)
        written = None
        reason, error = move.reason, move.error
        if move.step is not None:
            outcome = await self._act(move.step, charge, progress, log)
            progress = _after(progress, outcome)
            written = outcome.completion
            if outcome.event.step_ended.HasField("error"):
                error = outcome.event.step_ended.error
                reason = stop_reason_of(error)
        await log.end(progress, reason, error, written)

    async def fail(self, charge: Charge, error: QuartetError) -> None:
        """Ends a run that cannot go on."""
        number = charge.run.last_event_number + 1
        run = run_pb2.Run()
        run.CopyFrom(charge.run)
        run.state, run.stop_reason = run_pb2.RUN_STATE_FAILED, run_pb2.STOP_REASON_ERROR
        run.error.CopyFrom(error.to_proto())
        run.end_time.CopyFrom(now())
        run.last_event_number = number
        event = run_pb2.RunEvent(number=number, time=now(), ended=run_pb2.RunEnded(run=run))
        await self._journal.record(run, number, Outcome(event=event))

    async def _make(self, move: MakePlan | Act, charge: Charge, progress: Progress, log: "_Log") -> Progress:
        if isinstance(move, Act):
            return _after(progress, await self._act(move.step, charge, progress, log))
        return _after(progress, await self._plan(charge, progress, log))

    async def _plan(self, charge: Charge, progress: Progress, log: "_Log") -> Outcome:
        async def body(call: Call) -> Outcome:
            with telemetry.tracer().start_as_current_span(f"{names.PLAN} {AGENT}") as span:
                span.set_attributes(
                    {names.GEN_AI_OPERATION: names.PLAN, names.ITERATION: len(progress.plans) + 1}
                )
                plan, usage = await self._planning.plan(charge.run.id, progress, call)
            return Outcome(
                event=run_pb2.RunEvent(plan=plan), completion=generation_pb2.Completion(usage=usage)
            )

        def failed(error: QuartetError) -> Outcome:
            # A plan has no place for an error, so a step stands for the planning that failed.
            step = run_pb2.Step(id=f"{len(progress.plans) + 1}.plan", input=progress.question)
            return _failed(step, error)

        return await log.move(
            f"plan {len(progress.plans) + 1}", progress, None, lambda: self._bounded(charge, body, failed)
        )

    async def _act(self, step: run_pb2.Step, charge: Charge, progress: Progress, log: "_Log") -> Outcome:
        tool = run_pb2.StepKind.Name(step.kind).removeprefix("STEP_KIND_").lower()

        async def body(call: Call) -> Outcome:
            with telemetry.tracer().start_as_current_span(f"{names.EXECUTE_TOOL} {tool}") as span:
                span.set_attributes(
                    {names.GEN_AI_OPERATION: names.EXECUTE_TOOL, names.GEN_AI_TOOL_NAME: tool}
                )
                result, completion = await self._actor.act(charge.run.id, step, progress, call)
            return Outcome(event=run_pb2.RunEvent(step_ended=result), completion=completion)

        def failed(error: QuartetError) -> Outcome:
            return _failed(step, error)

        begun = run_pb2.RunEvent(step_started=step)
        return await log.move(
            f"{tool} {step.id}", progress, begun, lambda: self._bounded(charge, body, failed)
        )

    async def _bounded(
        self,
        charge: Charge,
        body: Callable[[Call], Awaitable[Outcome]],
        failed: Callable[[QuartetError], Outcome],
    ) -> Outcome:
        """Makes a move within the run's time, until it is cancelled; a failure becomes its outcome."""
        left_s = (charge.deadline - datetime.now(UTC)).total_seconds()
        call = Call.root(timeout_s=left_s, tenant=charge.tenant, key_id=charge.key_id, models=charge.models)
        try:
            call.remaining_s()
            return await self._unless_cancelled(charge.run.id, lambda: _persevering(body, call))
        except QuartetError as error:
            return failed(error)

    async def _unless_cancelled(self, run_id: str, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        with self._signals.subscribe(run_id) as signal:
            working = asyncio.ensure_future(work())
            try:
                while not working.done():
                    if await self._journal.is_cancelled(run_id):
                        raise Cancelled("the run was asked to stop", reason="RUN_CANCELLED")
                    waiting = asyncio.ensure_future(signal.wait(CANCEL_LOOK_S))
                    await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
                    await end(waiting)
                return working.result()
            finally:
                await end(working)


class _Log:
    """Numbers a run's events and records each move with the run as it then is."""

    def __init__(self, charge: Charge, journal: Journal, durable: Durable) -> None:
        self._run = charge.run
        self._journal = journal
        self._durable = durable
        self._next = 2  # 1 is the start, which is recorded with the run itself

    async def move(
        self,
        name: str,
        progress: Progress,
        begun: run_pb2.RunEvent | None,
        body: Callable[[], Awaitable[Outcome]],
    ) -> Outcome:
        """Makes a move once: an event that is recorded stands for it."""
        first = self._next
        last = first if begun is None else first + 1
        self._next = last + 1

        async def once() -> Outcome:
            done = await self._journal.recorded(self._run.id, last)
            if done is not None:
                return done
            if begun is not None:
                await self._record(first, progress, Outcome(event=begun))
            outcome = await body()
            return await self._record(last, _after(progress, outcome), outcome)

        return await self._durable.step(name, once)

    async def end(
        self,
        progress: Progress,
        reason: run_pb2.StopReason.ValueType,
        error: error_pb2.Error | None,
        written: generation_pb2.Completion | None,
    ) -> None:
        """Records the end, last of all."""
        number = self._next

        async def once() -> Outcome:
            run = self._as_of(number, progress)
            run.state = _STATES.get(reason, run_pb2.RUN_STATE_SUCCEEDED)
            run.stop_reason = reason
            run.end_time.CopyFrom(now())
            if run.state == run_pb2.RUN_STATE_SUCCEEDED:
                run.completion.CopyFrom(conclude(progress, reason, written))
            elif error is not None:
                run.error.CopyFrom(error)
            event = run_pb2.RunEvent(number=number, time=now(), ended=run_pb2.RunEnded(run=run))
            return await self._journal.record(run, number, Outcome(event=event))

        await self._durable.step("end", once)

    async def _record(self, number: int, progress: Progress, outcome: Outcome) -> Outcome:
        outcome.event.number = number
        outcome.event.time.CopyFrom(now())
        return await self._journal.record(self._as_of(number, progress), number, outcome)

    def _as_of(self, number: int, progress: Progress) -> run_pb2.Run:
        run = run_pb2.Run()
        run.CopyFrom(self._run)
        run.state = run_pb2.RUN_STATE_RUNNING
        run.iterations = len(progress.plans)
        run.replans = max(0, len(progress.plans) - 1)
        run.usage.CopyFrom(progress.usage)
        run.last_event_number = number
        return run


async def _persevering(body: Callable[[Call], Awaitable[Outcome]], call: Call) -> Outcome:
    """Tries again while a peer is away, a few times, with growing pauses."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return await body(call)
        except Unavailable as error:
            pause_s = error.retry_after_s or FIRST_BACKOFF_S * 2**attempt
            await asyncio.sleep(min(pause_s, MAX_BACKOFF_S, call.remaining_s()))
    return await body(call)


def _failed(step: run_pb2.Step, error: QuartetError) -> Outcome:
    result = run_pb2.StepResult(step=step, error=error.to_proto(), judgement=error.message)
    return Outcome(event=run_pb2.RunEvent(step_ended=result))


def _after(progress: Progress, outcome: Outcome) -> Progress:
    if outcome.event.HasField("plan"):
        return progress.planned(outcome.event.plan, outcome.completion.usage)
    return progress.acted(outcome.event.step_ended)


def now() -> Timestamp:
    """The present time, in UTC."""
    moment = Timestamp()
    moment.FromDatetime(datetime.now(UTC))
    return moment
