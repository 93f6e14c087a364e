"""The limits as one router counts them by itself; all routers together: tests/integration."""

from hypothesis import given
from hypothesis import strategies as st

from services.router.domain.catalogue import Limits
from services.router.domain.limits import Gate, Lease
from services.router.ports import StoreUnavailableError


class Clock:
    def __init__(self) -> None:
        self.now = 7.0

    def __call__(self) -> float:
        return self.now


class Away:
    """A store that cannot be reached."""

    async def take(self, deployment: str, limits: Limits, lease: str, tokens: int, lease_s: float) -> float:
        raise StoreUnavailableError("away")

    def give_back(self, deployment: str, limits: Limits, lease: str, tokens: int) -> None:
        raise AssertionError("nothing was taken from it")


@given(
    steps=st.lists(
        st.tuples(st.floats(0, 30), st.integers(1, 400), st.integers(0, 400) | st.none()), max_size=60
    )
)
async def test_no_minute_has_more_than_its_limits(steps: list[tuple[float, int, int | None]]) -> None:
    clock = Clock()
    gate = Gate(clock=clock)
    limits = Limits(requests_per_minute=6, tokens_per_minute=600)
    begun, requests, tokens = clock.now, 0, 0
    for pause_s, wanted, used in steps:
        clock.now += pause_s
        entered = await gate.enter("d", limits, wanted, 10)
        if isinstance(entered, Lease):
            taken = wanted if used is None else min(used, wanted)
            gate.leave(entered, taken)
            requests, tokens = requests + 1, tokens + taken
        else:
            assert 0 < entered <= 60
        minutes = (clock.now - begun) / 60
        assert requests <= 6 * (1 + minutes) + 1e-6
        assert tokens <= 600 * (1 + minutes) + 1e-6


async def test_after_the_wait_it_names_there_is_room() -> None:
    clock = Clock()
    gate = Gate(clock=clock)
    limits = Limits(tokens_per_minute=100)
    assert isinstance(await gate.enter("d", limits, 80, 10), Lease)
    wait_s = await gate.enter("d", limits, 50, 10)
    assert isinstance(wait_s, float)
    clock.now += wait_s + 1e-6
    assert isinstance(await gate.enter("d", limits, 50, 10), Lease)


async def test_a_call_larger_than_a_minutes_tokens_takes_the_whole_minute() -> None:
    clock = Clock()
    gate = Gate(clock=clock)
    assert isinstance(await gate.enter("d", Limits(tokens_per_minute=100), 5000, 10), Lease)
    assert isinstance(await gate.enter("d", Limits(tokens_per_minute=100), 1, 10), float)


async def test_places_come_back_when_calls_end() -> None:
    gate = Gate()
    limits = Limits(concurrent=2)
    first = await gate.enter("d", limits, 1, 10)
    assert isinstance(first, Lease)
    assert isinstance(await gate.enter("d", limits, 1, 10), Lease)
    assert isinstance(await gate.enter("d", limits, 1, 10), float)
    gate.leave(first, None)
    assert isinstance(await gate.enter("d", limits, 1, 10), Lease)


async def test_without_the_store_a_router_allows_itself_its_share() -> None:
    gate = Gate(Away(), share=0.25)
    limits = Limits(requests_per_minute=20)
    leases = [await gate.enter("d", limits, 1, 10) for _ in range(20)]
    assert sum(isinstance(each, Lease) for each in leases) == 5
    for lease in leases:
        if isinstance(lease, Lease):
            gate.leave(lease, 1)
