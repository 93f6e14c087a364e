import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from quartet.common.v1.decision_pb2 import Decision
from quartet.common.v1.generation_pb2 import Budget
from quartet.router.v1.router_pb2 import Prompt
from services.kit.call import Call
from services.kit.errors import DeadlineExceeded, QuartetError, Unavailable
from services.router.domain.flights import Flights
from services.router.domain.plan import Plan
from services.router.domain.routes import Route


@dataclass(frozen=True)
class Payer:
    """What a flight calls models with, as it is when it is looked at."""

    prompt: Prompt
    call: Call

    def read(self) -> tuple[str, str, str]:
        return self.call.key_id, self.prompt.budget.account_id, self.prompt.run_id


class Airline:
    """Makes three events, each when it is let; remembers how often it began, what it finished and lost."""

    def __init__(self, error: QuartetError | None = None) -> None:
        self.begun = 0
        self.finished: list[list[int]] = []
        self.cancellations = 0
        self.go = asyncio.Semaphore(0)
        self.error = error
        self.payer: Payer | None = None

    async def fly(self, prompt: Prompt, plan: Plan, call: Call) -> AsyncGenerator[int]:
        del plan
        self.payer = Payer(prompt, call)
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


def call(timeout_s: float = 10, key_id: str = "") -> Call:
    return Call.root(timeout_s=timeout_s, tenant="acme", key_id=key_id)


def asked(account: str = "") -> Prompt:
    return Prompt(budget=Budget(account_id=account), run_id=f"run-{account}")


def planned() -> Plan:
    route = Route(name="", max_output_tokens=1, expected_output_tokens=1, candidates=())
    return Plan(decision=Decision(), models=(), route=route, input_tokens=0)


async def ride(flights: Flights[int], airline: Airline, by: Call, prompt: Prompt | None = None) -> list[int]:
    prompt = prompt or asked()
    flight = flights.find("f") or flights.begin("f", airline.fly, airline.keep, prompt, planned(), by)
    async with aclosing(flights.read(flight, prompt, by)) as events:
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


async def test_it_goes_on_for_the_passenger_who_is_longest_aboard() -> None:
    flights, airline = Flights[int](timeout_s=10), Airline()
    rides = []
    for name in "abc":
        rides.append(asyncio.create_task(ride(flights, airline, call(key_id=name), asked(name))))
        await asyncio.sleep(0)
    airline.let(1)
    await asyncio.sleep(0.01)
    assert airline.payer is not None
    payers = [airline.payer.read()]
    # One who only reads may leave, and nothing changes.
    for leaver in (1, 0):
        rides[leaver].cancel()
        await asyncio.gather(rides[leaver], return_exceptions=True)
        payers.append(airline.payer.read())
    assert payers == [("a", "a", "run-a"), ("a", "a", "run-a"), ("c", "c", "run-c")]
    airline.let(2)
    assert await rides[2] == [0, 1, 2]


async def test_nobody_boards_what_the_means_of_its_asker_kept_short() -> None:
    flights, airline, plan = Flights[int](timeout_s=10), Airline(), planned()
    flight = flights.begin("f", airline.fly, airline.keep, asked(), plan, call())
    assert flights.find("f") is flight
    plan.course.ran_short = True
    assert flights.find("f") is None
    await flights.close()


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
