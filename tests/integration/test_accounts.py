"""Accounts in a real Redis: limits, draws, what comes back, and what happens when Redis is away."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from services.kit.accounts.account import (
    NOTHING,
    AccountsUnavailableError,
    Amount,
    Caps,
    Kind,
    Limit,
    RefusedError,
)
from services.kit.accounts.store import Accounts

Make = Callable[..., Accounts]
NO_CAPS = Caps()
PLENTY = 60.0
"""No test's timing."""


def per_minute(tokens: int, subject: str = "key/a") -> Limit:
    return Limit(name="tokens_per_minute", subject=subject, kind=Kind.TOKENS, most=tokens)


def places(most: int) -> Limit:
    return Limit(name="concurrent_calls", subject="tenant", kind=Kind.PLACES, most=most, window_s=0)


@pytest_asyncio.fixture
async def make(redis_url: str) -> AsyncIterator[Make]:
    made: list[Accounts] = []

    def accounts(*, ttl_s: float = PLENTY, timeout_s: float = PLENTY, url: str = redis_url) -> Accounts:
        made.append(Accounts(url, ttl_s=ttl_s, timeout_s=timeout_s))
        return made[-1]

    yield accounts
    for one in made:
        await one.shut()


async def try_open(accounts: Accounts, limit: Limit, tokens: int, tenant: str = "acme") -> str | None:
    try:
        account, _ = await accounts.open(tenant, [limit], Amount(tokens=tokens), NO_CAPS)
    except RefusedError:
        return None
    return account


async def remaining(accounts: Accounts, limit: Limit, tenant: str = "acme") -> int:
    """What the limit would still allow, asked by an account that wants nothing."""
    account, (standing,) = await accounts.open(tenant, [limit], NOTHING, NO_CAPS)
    accounts.close(tenant, account)
    await accounts.flush()
    return standing.remaining


async def test_of_a_hundred_at_once_exactly_ten_pass_and_eight_thousand_are_left(make: Make) -> None:
    fronts, backs, limit = [make(), make()], [make(), make()], per_minute(10_000)
    opened = await asyncio.gather(*(try_open(fronts[n % 2], limit, 1000) for n in range(100)))
    passed = [account for account in opened if account]
    assert len(passed) == 10
    for number, account in enumerate(passed):
        router = backs[number % 2]
        draw = await router.draw("acme", account, Amount(tokens=1000))
        router.settle("acme", account, draw, Amount(tokens=200))
    for router in backs:
        await router.flush()
    for front in fronts:
        for account in passed:
            front.close("acme", account)
        await front.flush()
    assert await remaining(fronts[0], limit) == 8000


async def test_an_orphan_is_refunded_at_its_ttl_and_not_before(make: Make) -> None:
    lost, later, limit = make(ttl_s=1.5), make(), per_minute(1000)
    account = await try_open(lost, limit, 1000)
    assert account
    lost.release(account)
    assert await try_open(later, limit, 1000) is None
    async with asyncio.timeout(10):
        while await try_open(later, limit, 1000) is None:  # noqa: ASYNC110 - the time to live is what is tested
            await asyncio.sleep(0.05)


async def test_an_account_that_is_held_outlives_its_ttl(make: Make) -> None:
    accounts, other, limit = make(ttl_s=1.2), make(), per_minute(1000)
    assert await try_open(accounts, limit, 1000)
    await asyncio.sleep(1.6)
    assert await try_open(other, limit, 1) is None


async def test_a_draw_renews_the_account(make: Make) -> None:
    accounts, other, limit = make(ttl_s=1.5), make(), per_minute(1000)
    account = await try_open(accounts, limit, 1000)
    assert account
    accounts.release(account)
    for _ in range(4):
        await asyncio.sleep(0.5)
        await accounts.draw("acme", account, NOTHING)
    assert await try_open(other, limit, 1) is None


async def test_a_draw_beyond_the_reservation_takes_more_from_the_limit_while_it_has_some(make: Make) -> None:
    accounts, limit = make(), per_minute(1000)
    account = await try_open(accounts, limit, 100)
    assert account
    draw = await accounts.draw("acme", account, Amount(tokens=600))
    assert await remaining(accounts, limit) == 400
    with pytest.raises(RefusedError) as caught:
        await accounts.draw("acme", account, Amount(tokens=600))
    standing = caught.value.standing
    assert standing is not None
    assert (standing.limit.name, standing.limit.subject, standing.limit.most) == (limit.name, "key/a", 1000)
    accounts.settle("acme", account, draw, Amount(tokens=50))
    accounts.close("acme", account)
    await accounts.flush()
    assert await remaining(accounts, limit) == 950


async def test_parallel_draws_share_the_caps_of_their_account(make: Make) -> None:
    accounts = make()
    caps = Caps(tokens=1000, cost_micro_usd=500, model_calls=3)
    account, _ = await accounts.open("acme", [], NOTHING, caps)

    async def draw(amount: Amount) -> str:
        try:
            await accounts.draw("acme", account, amount)
        except RefusedError as error:
            return error.cap
        return "drawn"

    outcomes = await asyncio.gather(*(draw(Amount(tokens=400)) for _ in range(4)))
    assert sorted(outcomes) == ["drawn", "drawn", "max_tokens", "max_tokens"]
    assert await draw(Amount(tokens=1, cost_micro_usd=501)) == "max_cost_micro_usd"
    assert await draw(NOTHING) == "drawn"
    assert await draw(NOTHING) == "max_model_calls"


async def test_a_settlement_counts_once_and_even_after_the_close(make: Make) -> None:
    accounts, limit = make(), per_minute(1000)
    account = await try_open(accounts, limit, 500)
    assert account
    draw = await accounts.draw("acme", account, Amount(tokens=500))
    accounts.close("acme", account)
    await accounts.flush()
    assert await remaining(accounts, limit) == 500
    for _ in range(2):
        accounts.settle("acme", account, draw, Amount(tokens=120))
    await accounts.flush()
    assert await remaining(accounts, limit) == 880


async def test_an_answer_longer_than_reserved_is_booked_beyond_the_limit(make: Make) -> None:
    accounts, limit = make(), per_minute(1000)
    account = await try_open(accounts, limit, 900)
    assert account
    draw = await accounts.draw("acme", account, Amount(tokens=900))
    accounts.settle("acme", account, draw, Amount(tokens=1500))
    accounts.close("acme", account)
    await accounts.flush()
    assert await try_open(accounts, limit, 1) is None


async def test_places_are_given_back_at_the_close(make: Make) -> None:
    accounts, limit = make(), places(2)
    opened = [await try_open(accounts, limit, 0) for _ in range(3)]
    assert [bool(account) for account in opened] == [True, True, False]
    accounts.close("acme", str(opened[0]))
    await accounts.flush()
    assert await try_open(accounts, limit, 0)


async def test_a_refusal_reserves_nothing_at_any_limit(make: Make) -> None:
    accounts, wide, narrow = make(), per_minute(1000, "tenant"), per_minute(10, "key/a")
    with pytest.raises(RefusedError) as caught:
        await accounts.open("acme", [wide, narrow, places(1)], Amount(tokens=11), NO_CAPS)
    assert caught.value.standing is not None
    assert caught.value.standing.limit is narrow
    assert await remaining(accounts, wide) == 1000
    assert await try_open(accounts, places(1), 0)


async def test_zero_allows_nothing(make: Make) -> None:
    accounts = make()
    assert await try_open(accounts, per_minute(0), 1) is None
    assert await try_open(accounts, places(0), 0) is None
    requests = Limit(name="requests_per_minute", subject="tenant", kind=Kind.REQUESTS, most=0)
    assert await try_open(accounts, requests, 0) is None


async def test_tenants_do_not_share_limits(make: Make) -> None:
    accounts, limit = make(), per_minute(1000, "tenant")
    assert await try_open(accounts, limit, 1000, "acme")
    assert await try_open(accounts, limit, 1000, "other")
    assert await try_open(accounts, limit, 1, "acme") is None


async def test_what_a_past_window_gave_does_not_come_back_to_the_next(make: Make, redis_url: str) -> None:
    accounts = make()
    short = Limit(name="tokens_per_minute", subject="key/a", kind=Kind.TOKENS, most=1000, window_s=1)
    account = await try_open(accounts, short, 800)
    assert account
    await asyncio.sleep(1.2)
    again = await try_open(accounts, short, 300)
    assert again
    accounts.close("acme", account)
    await accounts.flush()
    async with Redis.from_url(redis_url) as redis:
        used = await redis.hget("quartet:{acme}:quota:key/a:tokens_per_minute", "used")
    assert used is None or int(used) == 300


async def test_a_server_that_lost_its_scripts_is_taught_anew(make: Make, redis_url: str) -> None:
    accounts = make()
    assert await try_open(accounts, per_minute(10), 1)
    async with Redis.from_url(redis_url) as redis:
        await redis.script_flush()
    assert await try_open(accounts, per_minute(10), 1)


async def test_without_a_server_the_answer_is_quick_and_what_was_posted_is_bounded() -> None:
    accounts = Accounts("redis://127.0.0.1:1/0", timeout_s=0.05)
    begun = time.perf_counter()
    for _ in range(20):
        with pytest.raises(AccountsUnavailableError):
            await accounts.open("acme", [places(1)], NOTHING, NO_CAPS)
    assert time.perf_counter() - begun < 5
    accounts._commands._posted.clear()
    await accounts.shut()


async def test_a_server_that_stands_still_is_left_alone_and_found_again(make: Make, redis_url: str) -> None:
    accounts = make(timeout_s=1.0)
    assert await try_open(accounts, places(10), 0)
    async with Redis.from_url(redis_url) as redis:
        pid = int((await redis.info("server"))["process_id"])
    import os

    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(3):
            with pytest.raises(AccountsUnavailableError):
                await accounts.open("acme", [places(10)], NOTHING, NO_CAPS)
        begun = time.perf_counter()
        with pytest.raises(AccountsUnavailableError):
            await accounts.open("acme", [places(10)], NOTHING, NO_CAPS)
        assert time.perf_counter() - begun < 0.9
    finally:
        os.kill(pid, signal.SIGCONT)
    async with asyncio.timeout(20):
        while True:
            try:
                await accounts.open("acme", [places(10)], NOTHING, NO_CAPS)
                return
            except AccountsUnavailableError:
                await asyncio.sleep(0.1)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.integers(0, 400), st.just(0)),
        st.tuples(st.just("draw"), st.integers(0, 5), st.integers(0, 300)),
        st.tuples(st.just("settle"), st.integers(0, 5), st.integers(0, 300)),
        st.tuples(st.just("close"), st.integers(0, 5), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=steps)
async def test_whatever_happens_the_limit_ends_at_what_was_used(
    make: Make, redis_url: str, plan: list[tuple[str, int, int]]
) -> None:
    accounts, limit = make(), per_minute(1000)
    async with Redis.from_url(redis_url) as redis:
        await redis.flushdb()
    opened: list[str] = []
    draws: list[tuple[str, str]] = []
    used = 0
    for kind, number, amount in plan:
        if kind == "open" and (account := await try_open(accounts, limit, number)):
            opened.append(account)
        elif kind == "draw" and number < len(opened):
            try:
                draw = await accounts.draw("acme", opened[number], Amount(tokens=amount))
            except (RefusedError, AccountsUnavailableError):
                continue
            draws.append((opened[number], draw))
        elif kind == "settle" and number < len(draws):
            account, draw = draws.pop(number)
            accounts.settle("acme", account, draw, Amount(tokens=amount))
            used += amount
        elif kind == "close" and number < len(opened):
            accounts.close("acme", opened[number])
    for account, draw in draws:
        accounts.settle("acme", account, draw, NOTHING)
    for account in opened:
        accounts.close("acme", account)
    await accounts.flush()
    async with Redis.from_url(redis_url) as redis:
        booked = await redis.hget("quartet:{acme}:quota:key/a:tokens_per_minute", "used")
        assert int(booked or 0) == used
        assert not await redis.exists("quartet:{acme}:accounts")
        assert not await redis.keys("quartet:{acme}:account:*")
