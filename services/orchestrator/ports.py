"""What the orchestrator needs from the outside world."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from quartet.common.v1 import generation_pb2, run_pb2
from quartet.pipeline.v1 import pipeline_pb2
from quartet.router.v1 import router_pb2
from services.kit.call import Call


class Router(Protocol):
    """The methods of the router that are called."""

    async def generate(
        self, request: router_pb2.GenerateRequest, call: Call
    ) -> router_pb2.GenerateResponse: ...

    def stream_generate(
        self, request: router_pb2.StreamGenerateRequest, call: Call
    ) -> AsyncGenerator[router_pb2.StreamGenerateResponse]: ...

    async def list_models(
        self, request: router_pb2.ListModelsRequest, call: Call
    ) -> router_pb2.ListModelsResponse: ...


class Pipeline(Protocol):
    """The method of the pipeline that is called."""

    async def retrieve(
        self, request: pipeline_pb2.RetrieveRequest, call: Call
    ) -> pipeline_pb2.RetrieveResponse: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one move of a run made.

    Attributes:
        event: The event that records it.
        completion: The model's answer behind it, with its usage; empty when no model was called.
    """

    event: run_pb2.RunEvent
    completion: generation_pb2.Completion = field(default_factory=generation_pb2.Completion)


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """A run that is to be carried out: whose it is, until when, and in which trace.

    Attributes:
        run: As it is stored.
        models: The only models that its key may use; None for any.
        deadline: When its time is up, in UTC.
        traceparent: The W3C trace context of its start; empty for none.
    """

    run: run_pb2.Run
    tenant: str
    key_id: str
    deadline: datetime
    traceparent: str = ""
    models: tuple[str, ...] | None = None


class Accounts(Protocol):
    """Where the accounts of runs are kept; see `services.kit.accounts`."""

    def hold(self, tenant: str, account: str) -> None:
        """Keeps an account alive from here on."""
        ...

    def release(self, account: str) -> None:
        """Leaves an account to another process."""
        ...

    def close(self, tenant: str, account: str) -> None:
        """Ends an account, soon."""
        ...


class RunStore(Protocol):
    """Runs and their events; each tenant sees its own."""

    async def create(
        self, charge: Charge, *, idempotency_key: str, joins: timedelta | None, executor: str
    ) -> tuple[run_pb2.Run, bool]:
        """Stores a run with its first event; the run of the same key instead, and False, when there is one.

        With `joins` only a run that is no older and did not end without an answer: another loses its key.
        Raises ResourceExhausted when the tenant has too many runs under way.
        """

    async def get(self, tenant: str, run_id: str) -> run_pb2.Run:
        """Raises NotFound."""

    async def page(
        self,
        tenant: str,
        *,
        state: run_pb2.RunState.ValueType,
        collections: Sequence[str] | None,
        limit: int,
        after: tuple[datetime, str] | None,
    ) -> list[run_pb2.Run]:
        """Newest first, those older than `after`, without their answers; None leaves the collection open."""

    async def events(self, run_id: str, *, first: int, limit: int) -> list[run_pb2.RunEvent]:
        """Recorded events from a number on, in order."""

    async def request_cancel(self, tenant: str, run_id: str) -> run_pb2.Run:
        """Marks a run to be stopped, and says so to its executor. Raises NotFound."""

    async def cancel_all(self, tenant: str) -> int:
        """Marks all runs of a tenant to be stopped; gives how many are still under way."""

    async def ended(self, tenant: str, *, limit: int) -> list[str]:
        """Ids of runs of a tenant that are not under way."""

    async def delete(self, run_ids: Sequence[str]) -> None:
        """Removes runs with their events."""


class Journal(Protocol):
    """The same store as the carrying out of a run sees it."""

    async def take(self, run_id: str, executor: str) -> Charge:
        """The run, from now on carried out by this executor."""

    async def recorded(self, run_id: str, number: int) -> Outcome | None:
        """What an event recorded, or None while it has not happened."""

    async def record(self, run: run_pb2.Run, number: int, outcome: Outcome) -> Outcome:
        """Records an event once, with the run as it then is; what was recorded before wins, and is given."""

    async def is_cancelled(self, run_id: str) -> bool:
        """True once it was asked to stop."""


class Signals(Protocol):
    """Wakes those who wait for a run; a signal may be missing, so waiters also look by themselves."""

    def subscribe(self, run_id: str) -> AbstractContextManager["Signal"]:
        """A signal for one waiter."""


class Signal(Protocol):
    """Set whenever something about a run changed."""

    def is_set(self) -> bool:
        """True when a wait would end at once."""

    async def wait(self, timeout_s: float) -> bool:
        """True when something changed since the last wait; False after the time."""


class DeltaSink(Protocol):
    """Takes the pieces of an answer that is being made."""

    async def put(self, delta: generation_pb2.Delta) -> None:
        """Never fails: a lost delta is no lost answer."""


class Deltas(Protocol):
    """Pieces of answers on their way to those who watch; out of band, and never recorded."""

    def publish(self, run_id: str) -> AbstractAsyncContextManager[DeltaSink]:
        """A sink for one answer; what an earlier try of the same run sent is removed."""

    async def read(
        self, run_id: str, cursor: str, *, wait_s: float
    ) -> tuple[list[generation_pb2.Delta], str]:
        """The deltas after a cursor ("" for all), waiting a while for the first, and the next cursor."""


class Durable(Protocol):
    """Carries a run's moves out so that each one that ended is not done again after a crash."""

    async def step(self, name: str, body: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Runs the body, or gives what it made before; moves come in the same order each time."""


class Executor(Protocol):
    """Carries runs out in the background."""

    id: str

    async def start(self, run_id: str) -> None:
        """Begins a stored run; again for the same run does nothing."""

    def reserve(self, run_id: str) -> None:
        """Keeps a place for a run; raises ResourceExhausted when this process has as many as it may have."""

    def release(self, run_id: str) -> None:
        """Gives up the place of a run that is not started."""

    async def forget(self, run_ids: Sequence[str]) -> None:
        """Removes what it kept of ended runs beside the store."""
