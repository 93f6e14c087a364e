"""A run's events for those who look on: what is recorded, then what comes, and the answer's pieces."""

from collections.abc import AsyncGenerator

from quartet.common.v1 import run_pb2
from services.orchestrator.domain.course import now
from services.orchestrator.ports import Deltas, RunStore, Signal, Signals

PAGE = 200
LOOK_S = 2.0
"""How often the store is looked into when no signal comes."""
DELTA_WAIT_S = 0.25


class Watch:
    """Follows runs that any process carries out."""

    def __init__(self, store: RunStore, signals: Signals, deltas: Deltas) -> None:
        self._store = store
        self._signals = signals
        self._deltas = deltas

    async def events(self, run_id: str, *, first: int) -> AsyncGenerator[run_pb2.RunEvent, None]:
        """The events from a number on, until the run ends; deltas have the number 0."""
        following = max(1, first)
        cursor, answering = "", False
        with self._signals.subscribe(run_id) as signal:
            while True:
                events = await self._store.events(run_id, first=following, limit=PAGE)
                for event in events:
                    yield event
                    if event.HasField("ended"):
                        return
                if events:
                    following, answering = events[-1].number + 1, _is_answering(events[-1])
                    if len(events) == PAGE:
                        continue
                if answering:
                    async for delta, at in self._pieces(run_id, cursor, signal):
                        cursor = at
                        yield delta
                else:
                    await signal.wait(LOOK_S)

    async def replay(self, run_id: str) -> AsyncGenerator[run_pb2.RunEvent, None]:
        """The recorded events alone."""
        first = 1
        while events := await self._store.events(run_id, first=first, limit=PAGE):
            for event in events:
                yield event
            first = events[-1].number + 1

    async def _pieces(
        self, run_id: str, cursor: str, signal: Signal
    ) -> AsyncGenerator[tuple[run_pb2.RunEvent, str], None]:
        """Deltas until something is recorded or is overdue; what was sent before the last event comes too."""
        while True:
            recorded = signal.is_set()
            deltas, cursor = await self._deltas.read(
                run_id, cursor, wait_s=0.001 if recorded else DELTA_WAIT_S
            )
            for delta in deltas:
                yield run_pb2.RunEvent(time=now(), delta=delta), cursor
            if not deltas:
                await signal.wait(DELTA_WAIT_S)
                return


def _is_answering(event: run_pb2.RunEvent) -> bool:
    return event.HasField("step_started") and event.step_started.kind == run_pb2.STEP_KIND_SYNTHESIS
