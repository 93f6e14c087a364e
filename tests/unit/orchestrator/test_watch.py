from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, cast

from quartet.common.v1 import generation_pb2, run_pb2
from services.orchestrator.domain.watch import Watch
from services.orchestrator.ports import DeltaSink, RunStore


class Recorded:
    """A store of one run in which an event is there once it was looked for so often."""

    def __init__(self, events: Sequence[tuple[int, run_pb2.RunEvent]]) -> None:
        self._events = events
        self._looks = 0

    async def events(self, run_id: str, *, first: int, limit: int) -> list[run_pb2.RunEvent]:
        self._looks += 1
        return [event for look, event in self._events if look <= self._looks and event.number >= first]


class Silent:
    """Signals of which none ever comes; nobody waits for them either."""

    @contextmanager
    def subscribe(self, run_id: str) -> Iterator["Silent"]:
        yield self

    def is_set(self) -> bool:
        return False

    async def wait(self, timeout_s: float) -> bool:
        return False


class LateDeltas:
    """A model that is silent at first; each text comes at its own look."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = list(texts)

    def publish(self, run_id: str) -> AbstractAsyncContextManager[DeltaSink]:
        raise NotImplementedError

    async def read(
        self, run_id: str, cursor: str, *, wait_s: float
    ) -> tuple[list[generation_pb2.Delta], str]:
        text = self._texts.pop(0) if self._texts else ""
        return ([generation_pb2.Delta(text=text)], text) if text else ([], cursor)


def event(number: int, **kind: Any) -> run_pb2.RunEvent:
    return run_pb2.RunEvent(number=number, **kind)


async def test_the_pieces_of_an_answer_that_begins_late_are_shown() -> None:
    writing = run_pb2.Step(id="1.3", kind=run_pb2.STEP_KIND_SYNTHESIS)
    store = Recorded([(1, event(1, step_started=writing)), (8, event(2, ended=run_pb2.RunEnded()))])
    deltas = LateDeltas(["", "", "", "It opened ", "", "in 1932."])
    watch = Watch(cast("RunStore", store), Silent(), deltas)
    seen = [event async for event in watch.events("run_1", first=1)]
    assert [each.WhichOneof("kind") for each in seen] == ["step_started", "delta", "delta", "ended"]
    assert "".join(each.delta.text for each in seen) == "It opened in 1932."
