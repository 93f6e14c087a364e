import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import pytest

from services.kit.call import Call
from services.kit.errors import DeadlineExceeded, QuartetError, Unavailable
from services.router.domain.flights import Flights


class Airline:
    """Makes three events, each when it is let; remembers how often it began, what it finished and lost."""

    def __init__(self, error: QuartetError | None = None) -> None:
        self.begun = 0
        self.finished: list[list[int]] = []
        self.cancellations = 0
        self.go = asyncio.Semaphore(0)
        self.error = error

    async def fly(self, call: Call) -> AsyncGenerator[int]:
        del call
        self.begun += 1
        try:
            for number in range(3):
                await self.go.acquire()
                yield number
            if self.error is not None:
                raise self.error
        except asyncio.CancelledError:
            self.cancellations += 1
            raise

    async def keep(self, events: Sequence[int]) -> None:
        self.finished.append(list(events))

    def let(self, events: int = 3) -> None:
        for _ in range(events):
            self.go.release()


def call(timeout_s: float = 10) -> Call:
    return Call.root(timeout_s=timeout_s, tenant="acme")


async def ride(flights: Flights[int], airline: Airline, by: Call) -> list[int]:
    flight = flights.find("f") or flights.begin("f", airline.fly, airline.keep, by)
    async with aclosing(flights.read(flight, by)) as events:
        return [event async for event in events]


async def test_all_passengers_see_the_same_and_one_flight_is_made() -> None:
    flights, airline = Flights[int](timeout_s=10), Airline()
    rides = [asyncio.create_task(ride(flights, airline, call())) for _ in range(50)]
    await asyncio.sleep(0)
    airline.let()
    assert list(await asyncio.gather(*rides)) == [[0, 1, 2]] * 50
    assert airline.begun == 1
    assert airline.finished == [[0, 1, 2]]
    assert flights.find("f") is None


async def test_who_comes_late_sees_it_from_the_beginning() -> None:
    flights, airline = Flights[int](timeout_s=10), Airline()
    first = asyncio.create_task(ride(flights, airline, call()))
    airline.let(2)
    await asyncio.sleep(0.01)
    second = asyncio.create_task(ride(flights, airline, call()))
    await asyncio.sleep(0.01)
    airline.let(1)
    assert list(await asyncio.gather(first, second)) == [[0, 1, 2]] * 2
    assert airline.begun == 1


async def test_one_passenger_leaving_does_not_end_the_flight_but_the_last_one_does() -> None:
    flights, airline = Flights[int](timeout_s=10), Airline()
    first = asyncio.create_task(ride(flights, airline, call()))
    await asyncio.sleep(0)
    second = asyncio.create_task(ride(flights, airline, call()))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0.01)
    assert airline.cancellations == 0
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    await asyncio.sleep(0.01)
    assert airline.cancellations == 1
    assert flights.find("f") is None
    assert not airline.finished


async def test_a_passengers_own_deadline_is_kept_and_only_his() -> None:
    flights, airline = Flights[int](timeout_s=10), Airline()
    patient = asyncio.create_task(ride(flights, airline, call()))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded):
        await ride(flights, airline, call(0.02))
    airline.let()
    assert await patient == [0, 1, 2]


async def test_a_failure_reaches_everyone_and_is_not_kept() -> None:
    flights, airline = Flights[int](timeout_s=10), Airline(Unavailable("down", reason="DOWN"))
    rides = [asyncio.create_task(ride(flights, airline, call())) for _ in range(3)]
    await asyncio.sleep(0)
    airline.let()
    outcomes = await asyncio.gather(*rides, return_exceptions=True)
    assert [getattr(outcome, "reason", "") for outcome in outcomes] == ["DOWN"] * 3
    assert not airline.finished


async def test_closing_ends_what_is_under_way_with_an_error() -> None:
    flights, airline = Flights[int](timeout_s=10), Airline()
    riding = asyncio.create_task(ride(flights, airline, call()))
    await asyncio.sleep(0.01)
    await flights.close()
    with pytest.raises(Unavailable, match="try again"):
        await riding
