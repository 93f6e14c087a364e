"""Identical requests under way at once share one answer."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from quartet.router.v1.router_pb2 import Prompt
from services.kit.call import Call
from services.kit.errors import DeadlineExceeded, QuartetError, Unavailable
from services.kit.tasks import end
from services.router.domain.plan import Plan

T = TypeVar("T")
OUT_OF_TIME = "the time given to this call is used up: allow more, or ask for less"
Start = Callable[[Prompt, Plan, Call], AsyncGenerator[T]]
Finish = Callable[[Sequence[T]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Passenger:
    """A request that reads an answer under way."""

    prompt: Prompt
    call: Call


class Flight(Generic[T]):
    """One answer under way: made by a task of its own, read by everyone who asked for it.

    It is made on behalf of the passenger who is longest aboard: a model call is drawn from that request's
    account and booked on its key, as they are when it begins. The others pay nothing.

    Attributes:
        prompt, call: Of the flight alone, with the account, the run and the key of who pays.
        plan: Of the request that began it.
    """

    def __init__(self, name: str, prompt: Prompt, plan: Plan, call: Call) -> None:
        self.name = name
        self.prompt = Prompt()
        self.prompt.CopyFrom(prompt)
        self.plan = plan
        self.call = call
        self.task: asyncio.Task[None] | None = None
        self.events: list[T] = []
        self.has_landed = False
        self._passengers: list[_Passenger] = []
        self._news = asyncio.Event()
        self._error: QuartetError | None = None

    @property
    def runs_short(self) -> bool:
        """Whether another request of the same words may get a better answer, by means of its own."""
        return self.plan.course.ran_short

    @contextmanager
    def board(self, prompt: Prompt, call: Call) -> Iterator[None]:
        """Aboard for as long as it is entered; when who pays leaves, the next one does."""
        passenger = _Passenger(prompt=prompt, call=call)
        self._passengers.append(passenger)
        try:
            yield
        finally:
            paid = self._passengers[0] is passenger
            self._passengers.remove(passenger)
            if paid and self._passengers:
                self._go_on_for(self._passengers[0])

    @property
    def is_deserted(self) -> bool:
        """Whether nobody reads it any more."""
        return not self._passengers

    def _go_on_for(self, passenger: _Passenger) -> None:
        self.call.key_id = passenger.call.key_id
        self.prompt.run_id = passenger.prompt.run_id
        self.prompt.budget.CopyFrom(passenger.prompt.budget)

    async def read(self) -> AsyncGenerator[T]:
        """Everything from the beginning, as it comes; raises what the answer ended with."""
        place = 0
        while True:
            news = self._news
            while place < len(self.events):
                place += 1
                yield self.events[place - 1]
            if self.has_landed:
                if self._error is not None:
                    raise self._error
                return
            if news is self._news:
                await news.wait()

    def publish(self, event: T) -> None:
        """Gives an event to all readers."""
        self.events.append(event)
        self._wake()

    def land(self, error: QuartetError | None = None) -> None:
        """Nothing more comes."""
        self.has_landed, self._error = True, error
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class Flights(Generic[T]):
    """Answers under way, by the hash of their request; there are never more than requests.

    Args:
        timeout_s: How long an answer may take, whatever the deadline of the request that began it.
    """

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._flights: dict[str, Flight[T]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def find(self, name: str) -> Flight[T] | None:
        """The answer under way of that name, unless it runs short."""
        flight = self._flights.get(name)
        return None if flight is None or flight.runs_short else flight

    def begin(
        self, name: str, start: Start[T], finish: Finish[T], prompt: Prompt, plan: Plan, call: Call
    ) -> Flight[T]:
        """Begins an answer on behalf of a request.

        It is cancelled when nobody reads it any more, unless it is complete: then `finish` gets its events.
        Until that is done, who comes late still reads it.
        """
        own = call.outgoing()
        own.deadline = time.monotonic() + self._timeout_s
        flight: Flight[T] = Flight(name, prompt, plan, own)
        self._flights[name] = flight
        events = start(flight.prompt, plan, own)
        flight.task = asyncio.create_task(self._fly(flight, events, finish), name="flight")
        self._tasks.add(flight.task)
        flight.task.add_done_callback(self._tasks.discard)
        return flight

    async def read(self, flight: Flight[T], prompt: Prompt, call: Call) -> AsyncGenerator[T]:
        """The flight's events, within the call's own deadline; who leaves early leaves the others alone."""
        try:
            with flight.board(prompt, call):
                async with aclosing(flight.read()) as events:
                    while True:
                        try:
                            async with asyncio.timeout(call.remaining_s()):
                                event = await anext(events)
                        except StopAsyncIteration:
                            return
                        except TimeoutError:
                            raise DeadlineExceeded(OUT_OF_TIME) from None
                        yield event
        finally:
            if flight.is_deserted and not flight.has_landed and flight.task is not None:
                self._forget(flight)
                flight.task.cancel()

    async def close(self) -> None:
        """Cancels what is under way."""
        await end(*self._tasks)

    async def _fly(self, flight: Flight[T], events: AsyncGenerator[T], finish: Finish[T]) -> None:
        try:
            async with aclosing(events):
                async for event in events:
                    flight.publish(event)
            flight.land()
            await finish(flight.events)
        except QuartetError as error:
            flight.land(error)
        finally:
            self._forget(flight)
            if not flight.has_landed:
                flight.land(
                    Unavailable(
                        "the answer was broken off: try again", reason="ANSWER_INCOMPLETE", retry_after_s=1.0
                    )
                )

    def _forget(self, flight: Flight[T]) -> None:
        if self._flights.get(flight.name) is flight:
            del self._flights[flight.name]
