import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain.response_entries import Entry, Kind, Slot, pack, unpack
from services.gateway.domain.response_log import MAX_CLAIMS, Make, ResponseLog
from services.gateway.domain.response_reader import KEEP_S, KEEP_STREAM_S, Ask, OwnerLostError, Reader
from services.gateway.domain.response_writer import FLUSH_S
from services.kit.call import Call
from services.kit.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from tests.doubles.responses import FakeResponses

SLOT = Slot("acme", "k")
MESSAGES = (b"head", b"one", b"two", b"three")


def ask(first: int = 0, fingerprint: str = "f", keep_s: float = KEEP_S) -> Ask:
    return Ask(slot=SLOT, rpc="Test", fingerprint=fingerprint, first=first, keep_s=keep_s)


def call(timeout_s: float = 10.0) -> Call:
    return Call.root(timeout_s=timeout_s, tenant="acme")


class Maker:
    """Makes one answer after the other and counts them; waits in the middle for `go`."""

    def __init__(self, messages: tuple[bytes, ...] = MESSAGES, *, fails: Exception | None = None) -> None:
        self.count = 0
        self.messages = messages
        self.fails = fails
        self.go = asyncio.Event()
        self.go.set()
        self.began = asyncio.Event()
        self.closed = asyncio.Event()

    async def __call__(self, own: Call) -> AsyncGenerator[bytes]:
        assert own.tenant == "acme"
        self.count += 1
        try:
            for number, message in enumerate(self.messages):
                if number == len(self.messages) // 2:
                    self.began.set()
                    await self.go.wait()
                    if self.fails:
                        raise self.fails
                yield message
        finally:
            self.closed.set()


@pytest.fixture
def store() -> FakeResponses:
    return FakeResponses()


def log_of(store: FakeResponses, *, max_detached: int = 8, timeout_s: float = 10.0) -> ResponseLog:
    return ResponseLog(store, max_detached=max_detached, timeout_s=timeout_s, max_bytes=1000)


@pytest_asyncio.fixture
async def log(store: FakeResponses) -> AsyncIterator[ResponseLog]:
    log = log_of(store)
    yield log
    await log.close()


async def read(log: ResponseLog, asked: Ask, make: Make, within: Call | None = None) -> list[bytes]:
    return [message async for message in log.serve(asked, make, within or call())]


async def leave_at(log: ResponseLog, make: Maker, count: int) -> None:
    """A client that reads so many messages and goes."""
    async with aclosing(log.serve(ask(), make, call())) as messages:
        for _ in range(count):
            await anext(messages)


async def test_an_answer_is_made_once_and_marked_when_it_is_replayed(log: ResponseLog) -> None:
    make, first, second = Maker(), call(), call()
    assert await read(log, ask(), make, first) == list(MESSAGES)
    assert await read(log, ask(), make, second) == list(MESSAGES)
    assert make.count == 1
    assert "x-quartet-replayed" not in first.response_headers
    assert second.response_headers["x-quartet-replayed"] == "true"


async def test_duplicates_at_two_replicas_wait_for_the_first(store: FakeResponses, log: ResponseLog) -> None:
    other, make = log_of(store), Maker()
    make.go.clear()
    reading = [asyncio.create_task(read(each, ask(), make)) for each in (log, other, log, other)]
    await make.began.wait()
    await asyncio.sleep(2 * FLUSH_S)
    make.go.set()
    assert await asyncio.gather(*reading) == [list(MESSAGES)] * 4
    assert make.count == 1


async def test_an_answer_goes_on_without_its_client(log: ResponseLog) -> None:
    make = Maker()
    make.go.clear()
    await leave_at(log, make, 1)
    make.go.set()
    await asyncio.wait_for(make.closed.wait(), 5)
    assert await read(log, ask(), make) == list(MESSAGES)
    assert make.count == 1


async def test_a_client_that_goes_holds_up_no_long_answer(log: ResponseLog) -> None:
    make = Maker(tuple(bytes([number]) for number in range(100)))
    await leave_at(log, make, 1)
    await asyncio.wait_for(make.closed.wait(), 5)
    assert await read(log, ask(first=98), make) == [b"\x00", b"\x62", b"\x63"]


async def test_another_request_may_not_use_the_key(log: ResponseLog) -> None:
    make = Maker()
    await read(log, ask(), make)
    for first in (0, 1):
        with pytest.raises(AlreadyExists) as caught:
            await read(log, ask(first, fingerprint="other"), make)
        assert caught.value.reason == "IDEMPOTENCY_KEY_REUSED"
    assert make.count == 1


async def test_a_failure_reaches_who_waits_and_is_not_kept_for_the_next(
    store: FakeResponses, log: ResponseLog
) -> None:
    make = Maker(fails=PermissionDenied("no", reason="NO"))
    make.go.clear()
    waiting = [asyncio.create_task(read(log, ask(), make)) for _ in range(3)]
    await make.began.wait()
    await asyncio.sleep(2 * FLUSH_S)
    make.go.set()
    for failed in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(failed, PermissionDenied)
        assert failed.reason == "NO"
    with pytest.raises(PermissionDenied):
        await read(log, ask(first=1), make)
    assert make.count == 1
    assert store.remaining_s(SLOT) == pytest.approx(KEEP_STREAM_S, abs=5)
    make.fails = None
    assert await read(log, ask(), make) == list(MESSAGES)
    assert make.count == 2
    assert store.remaining_s(SLOT) == pytest.approx(KEEP_S, abs=5)


async def test_a_fault_that_nobody_foresaw_is_a_typed_error(log: ResponseLog) -> None:
    with pytest.raises(Internal):
        await read(log, ask(), Maker(fails=ZeroDivisionError()))


async def test_a_failed_stream_is_taken_up_with_the_same_error(log: ResponseLog) -> None:
    make = Maker(fails=PermissionDenied("no", reason="NO"))
    with pytest.raises(PermissionDenied):
        await read(log, ask(), make)
    messages = log.serve(ask(first=1), make, call())
    assert [await anext(messages), await anext(messages)] == [b"head", b"one"]
    with pytest.raises(PermissionDenied) as caught:
        await anext(messages)
    assert caught.value.reason == "NO"


@given(first=st.integers(1, 29), count=st.integers(2, 30), cut=st.integers(1, 30))
async def test_a_stream_cut_anywhere_has_the_identical_rest(first: int, count: int, cut: int) -> None:
    store = FakeResponses()
    log, other = log_of(store), log_of(store)
    make = Maker(tuple(b"m%d" % number for number in range(count)))
    await leave_at(log, make, min(cut, count))
    if first < count:
        assert await read(other, ask(first), make) == [make.messages[0], *make.messages[first:]]
    else:
        with pytest.raises(OutOfRange) as caught:
            await read(other, ask(first), make)
        assert caught.value.metadata == {"last_event_number": str(count - 1)}
    assert make.count == 1
    await log.close()


async def test_nothing_is_begun_by_who_takes_a_stream_up(log: ResponseLog) -> None:
    make = Maker()
    with pytest.raises(NotFound) as caught:
        await read(log, ask(first=2), make)
    assert caught.value.reason == "STREAM_NOT_KEPT"
    assert make.count == 0


async def test_what_is_too_long_reaches_its_first_client_alone(
    store: FakeResponses, log: ResponseLog
) -> None:
    make = Maker((b"head", b"x" * 600, b"y" * 600))
    assert await read(log, ask(), make) == list(make.messages)
    for first in (0, 1):
        with pytest.raises(FailedPrecondition) as caught:
            await read(log, ask(first), make)
        assert caught.value.reason == "ANSWER_TOO_LONG_TO_KEEP"
    assert make.count == 1
    assert store.remaining_s(SLOT) == pytest.approx(KEEP_S, abs=5)


async def test_a_waiting_duplicate_takes_over_from_an_owner_that_is_lost(
    store: FakeResponses, log: ResponseLog
) -> None:
    assert await store.claim(SLOT, "f", "of another process", 10.0) is None
    make = Maker()
    waiting = asyncio.create_task(read(log, ask(), make))
    await asyncio.sleep(0.05)
    assert make.count == 0
    store.lose(SLOT)
    assert await waiting == list(MESSAGES)
    assert make.count == 1


async def test_who_was_told_half_an_answer_is_told_when_its_owner_is_lost(
    store: FakeResponses, log: ResponseLog
) -> None:
    assert await store.claim(SLOT, "f", "gone", 10.0) is None
    await store.append(SLOT, "gone", Kind.GOING, start=0, messages=(b"head", b"one"), expire_s=10.0)
    make = Maker()
    for first in (0, 1):
        messages = log.serve(ask(first), make, call())
        assert [await anext(messages), await anext(messages)] == [b"head", b"one"]
        store.lose(SLOT)
        if first == 0:
            assert await store.claim(SLOT, "f", "next", 10.0) is None
        with pytest.raises(Unavailable) as caught:
            await anext(messages)
        assert caught.value.reason == "ANSWER_INTERRUPTED"
        assert caught.value.retry_after_s
        await store.append(SLOT, "next", Kind.GOING, start=0, messages=(b"head", b"one"), expire_s=10.0)
    assert make.count == 0


async def test_a_slot_that_is_lost_again_and_again_is_given_up(
    log: ResponseLog, store: FakeResponses
) -> None:
    class Losing(FakeResponses):
        async def claim(self, slot: Slot, fingerprint: str, owner: str, lapse_s: float) -> str | None:
            self.commands.append("claim")
            return fingerprint

    losing = Losing()
    with pytest.raises(Unavailable):
        await read(log_of(losing), ask(), Maker())
    assert losing.commands.count("claim") == MAX_CLAIMS


async def test_an_owner_that_lost_its_claim_writes_nothing_more(
    store: FakeResponses, log: ResponseLog
) -> None:
    make = Maker()
    make.go.clear()
    reading = asyncio.create_task(read(log, ask(), make))
    await make.began.wait()
    store.lose(SLOT)
    assert await store.claim(SLOT, "f", "next", 10.0) is None
    make.go.set()
    assert await reading == list(MESSAGES)
    entries = await store.read(SLOT, "")
    assert entries is not None
    assert [entry.kind for entry in entries] == [Kind.CLAIMED]


async def test_a_client_that_goes_while_it_claims_leaves_no_claim_behind() -> None:
    class Slow(FakeResponses):
        async def claim(self, slot: Slot, fingerprint: str, owner: str, lapse_s: float) -> str | None:
            await super().claim(slot, fingerprint, owner, lapse_s)
            claimed.set()
            await asyncio.sleep(10)
            return None

    claimed, slow, make = asyncio.Event(), Slow(), Maker()
    asking = asyncio.create_task(read(log_of(slow), ask(), make))
    await claimed.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not slow.remaining_s(SLOT)
    assert make.count == 0


async def test_no_promise_is_made_while_the_store_is_down(store: FakeResponses, log: ResponseLog) -> None:
    store.is_down = True
    make = Maker()
    for first in (0, 1):
        with pytest.raises(Unavailable) as caught:
            await read(log, ask(first), make)
        assert caught.value.reason == "RESPONSE_LOG_UNAVAILABLE"
    assert make.count == 0


async def test_a_client_does_not_notice_that_the_store_goes_down_meanwhile(
    store: FakeResponses, log: ResponseLog
) -> None:
    make = Maker()
    make.go.clear()
    reading = asyncio.create_task(read(log, ask(), make))
    await make.began.wait()
    store.is_down = True
    await asyncio.sleep(2 * FLUSH_S)
    make.go.set()
    assert await reading == list(MESSAGES)


async def test_what_the_store_missed_is_written_when_it_is_back(
    store: FakeResponses, log: ResponseLog
) -> None:
    make = Maker()
    make.go.clear()
    reading = asyncio.create_task(read(log, ask(), make))
    await make.began.wait()
    store.is_down = True
    await asyncio.sleep(2 * FLUSH_S)
    store.is_down = False
    make.go.set()
    assert await reading == list(MESSAGES)
    assert await read(log, ask(), make) == list(MESSAGES)


async def test_so_many_go_on_and_more_are_refused_and_may_come_again(store: FakeResponses) -> None:
    log, make = log_of(store, max_detached=1), Maker()
    make.go.clear()
    await leave_at(log, make, 1)
    other = Ask(slot=Slot("acme", "other"), rpc="Test", fingerprint="f")
    with pytest.raises(ResourceExhausted) as caught:
        await read(log, other, make)
    assert caught.value.reason == "TOO_MANY_DETACHED"
    make.go.set()
    assert await read(log, ask(), make) == list(MESSAGES)
    assert await read(log, other, make) == list(MESSAGES)


async def test_an_answer_without_a_client_has_its_own_time(store: FakeResponses) -> None:
    log, make = log_of(store, timeout_s=0.05), Maker()
    make.go.clear()
    with pytest.raises(DeadlineExceeded):
        await read(log, ask(), make)
    assert make.closed.is_set()


async def test_a_drain_lets_answers_end(log: ResponseLog) -> None:
    make = Maker()
    make.go.clear()
    await leave_at(log, make, 1)
    draining = asyncio.create_task(log.drain(5.0))
    await asyncio.sleep(0)
    make.go.set()
    await draining
    assert await read(log, ask(), make) == list(MESSAGES)
    assert make.count == 1


async def test_a_drain_that_takes_too_long_ends_answers_with_an_error(log: ResponseLog) -> None:
    make = Maker()
    make.go.clear()
    reading = asyncio.create_task(read(log, ask(), make))
    await make.began.wait()
    await log.drain(0.01)
    with pytest.raises(Unavailable) as caught:
        await reading
    assert caught.value.reason == "ANSWER_INTERRUPTED"
    with pytest.raises(Unavailable):
        await read(log, ask(first=1), make)
    assert make.closed.is_set()


async def test_a_drain_that_meets_a_slow_store_tells_the_client_all_the_same() -> None:
    class Slow(FakeResponses):
        async def append(self, *_: object, **__: object) -> bool:
            await asyncio.Event().wait()
            raise AssertionError

    log, make = log_of(Slow()), Maker()
    make.go.clear()
    reading = asyncio.create_task(read(log, ask(), make, call(timeout_s=60.0)))
    await make.began.wait()
    await log.drain(0.01)
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable) as caught:
            await reading
    assert caught.value.reason == "ANSWER_INTERRUPTED"


async def test_who_waits_longer_than_its_time_is_told_so(store: FakeResponses, log: ResponseLog) -> None:
    assert await store.claim(SLOT, "f", "slow", 10.0) is None
    with pytest.raises(DeadlineExceeded):
        await read(log, ask(), Maker(), call(timeout_s=0.05))


def test_an_entry_that_is_there_twice_is_read_once() -> None:
    reader = Reader(ask())
    entries = [
        Entry(kind=Kind.CLAIMED, cursor="1", owner="o", fingerprint="f"),
        Entry(kind=Kind.GOING, cursor="2", messages=(b"head", b"one")),
        Entry(kind=Kind.GOING, cursor="3", messages=(b"head", b"one", b"two")),
        Entry(kind=Kind.DONE, cursor="4", start=3, messages=(b"three",)),
    ]
    assert list(reader.take(entries)) == list(MESSAGES)
    assert reader.is_done


def test_a_slot_that_lapsed_has_lost_its_owner() -> None:
    reader = Reader(ask())
    assert not list(reader.take([Entry(kind=Kind.CLAIMED, cursor="1", owner="o", fingerprint="f")]))
    with pytest.raises(OwnerLostError):
        list(reader.take(None))


@given(st.lists(st.binary(max_size=300)))
def test_messages_are_unpacked_as_they_were_packed(messages: list[bytes]) -> None:
    assert list(unpack(pack(messages))) == messages
