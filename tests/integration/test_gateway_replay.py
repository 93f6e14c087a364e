"""The response log in a real Redis between two gateways."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from quartet.gateway.v1.gateway_pb2 import EmbedRequest, StreamGenerateRequest
from services.gateway.adapters.redis.response_log import RedisResponseLog
from services.gateway.domain.keys import make_key
from services.gateway.domain.response_entries import Entry, Kind, Slot, StoreUnavailableError
from services.gateway.domain.response_log import ResponseLog
from services.gateway.settings import Settings
from services.gateway.wiring import ORCHESTRATOR, PIPELINE, ROUTER, assemble
from services.kit.call import Call
from services.kit.client import local, remote
from services.kit.errors import AlreadyExists, FailedPrecondition, Unavailable
from services.kit.serving import Server
from services.kit.testing import client_of
from tests.contract.gateway.neighbours import FakeKeys, FakeOrchestrator, FakePipeline, FakeRouter, say
from tests.contract.gateway.test_native import ask, generation

SLOT = Slot("acme", "k")
NATIVE = "quartet.gateway.v1.GatewayService"


@dataclass(slots=True, kw_only=True)
class Pair:
    """Two gateways that share a Redis and a router."""

    gateways: list[Any]
    logs: list[ResponseLog]
    router: FakeRouter
    secret: str

    def call(self, **headers: str) -> Call:
        metadata = {"authorization": f"Bearer {self.secret}"}
        metadata |= {name.replace("_", "-"): value for name, value in headers.items()}
        return Call.root(timeout_s=20, metadata=metadata)


@pytest_asyncio.fixture
async def pair(redis_url: str) -> AsyncIterator[Pair]:
    router = FakeRouter()
    key, secret = make_key(tenant="acme", scopes=frozenset({"*"}))
    pair = Pair(gateways=[], logs=[], router=router, secret=secret)
    async with AsyncExitStack() as stack:
        for _ in range(2):
            store = RedisResponseLog(redis_url, claim_timeout_s=5.0)
            stack.push_async_callback(store.close)
            log = ResponseLog(store, max_detached=64, timeout_s=60, max_bytes=100_000)
            stack.push_async_callback(log.close)
            pair.logs.append(log)
            peers = (local(ROUTER, router), local(PIPELINE, FakePipeline()))
            for binding in assemble(
                Settings(), FakeKeys(key), *peers, local(ORCHESTRATOR, FakeOrchestrator()), responses=log
            ):
                if binding.service_name == NATIVE:
                    client = client_of("remote", NATIVE, binding.service)
                    pair.gateways.append(await stack.enter_async_context(client))
        yield pair


async def test_duplicates_at_both_gateways_are_answered_once(pair: Pair) -> None:
    pair.router.pause = asyncio.Event()
    asking = [
        asyncio.create_task(gateway.generate(ask(), pair.call(idempotency_key="k")))
        for gateway in pair.gateways * 10
    ]
    await pair.router.asked.wait()
    await asyncio.sleep(0.2)
    pair.router.pause.set()
    answers = await asyncio.gather(*asking)
    assert all(answer == answers[0] for answer in answers)
    assert len(pair.router.prompts) == 1
    for gateway in pair.gateways:
        with pytest.raises(AlreadyExists):
            await gateway.generate(ask(text="Else"), pair.call(idempotency_key="k"))


async def test_texts_are_embedded_once_for_both_gateways(pair: Pair) -> None:
    request = EmbedRequest(texts=["warranty"])
    answers = await asyncio.gather(
        *(gateway.embed(request, pair.call(idempotency_key="k")) for gateway in pair.gateways * 5)
    )
    assert all(answer == answers[0] for answer in answers)
    assert len(pair.router.embeddings) == 1
    for gateway in pair.gateways:
        with pytest.raises(AlreadyExists):
            await gateway.embed(EmbedRequest(texts=["else"]), pair.call(idempotency_key="k"))


async def test_a_stream_broken_at_one_gateway_is_taken_up_at_the_other(pair: Pair) -> None:
    pair.router.pause = asyncio.Event()
    pair.router.deltas = say(*(f"word {number} " for number in range(200)))
    first, second = pair.gateways
    call = pair.call()
    seen = []
    request = StreamGenerateRequest(generation=generation(), resumable=True)
    async with aclosing(first.stream_generate(request, call)) as events:
        async for event in events:
            seen.append(event)
            if event.event_number == 2:
                break
    key = call.response_headers["x-quartet-resume-key"]
    request = StreamGenerateRequest(generation=generation(idempotency_key=key), from_event_number=3)
    resuming = [
        asyncio.create_task(_collect(gateway.stream_generate(request, pair.call())))
        for gateway in (second, first)
    ]
    await asyncio.sleep(0.1)
    pair.router.pause.set()
    for rest in await asyncio.gather(*resuming):
        whole = [*seen, *rest]
        assert [event.event_number for event in whole] == list(range(1, 203))
        assert "".join(event.delta.text for event in whole) == "".join(d.text for d in pair.router.deltas)
        assert whole[-1].end.usage.cost_micro_usd == 42
    assert len(pair.router.prompts) == 1


async def test_a_gateway_that_stops_tells_who_followed_it_elsewhere(pair: Pair) -> None:
    pair.router.pause = asyncio.Event()
    first, second = pair.gateways
    request = StreamGenerateRequest(generation=generation(idempotency_key="k"))
    async with aclosing(first.stream_generate(request, pair.call())) as events:
        await anext(events)
    following = second.stream_generate(request, pair.call())
    await anext(following)
    await pair.logs[0].drain(0.01)
    with pytest.raises(Unavailable) as caught:
        await _collect(following)
    assert caught.value.reason == "ANSWER_INTERRUPTED"
    pair.router.pause.set()
    assert [event async for event in second.stream_generate(request, pair.call())][-1].HasField("end")


async def test_a_gateway_that_drains_finishes_what_its_clients_left(redis_url: str) -> None:
    router = FakeRouter(pause=asyncio.Event())
    assert router.pause is not None
    key, secret = make_key(tenant="acme", scopes=frozenset({"*"}))
    request = StreamGenerateRequest(generation=generation(idempotency_key="k"))
    metadata = {"authorization": f"Bearer {secret}"}
    store = RedisResponseLog(redis_url, claim_timeout_s=5.0)
    for is_second in (False, True):
        log = ResponseLog(store, max_detached=8, timeout_s=60, max_bytes=100_000)
        peers = (local(ROUTER, router), local(PIPELINE, FakePipeline()))
        bindings = assemble(
            Settings(), FakeKeys(key), *peers, local(ORCHESTRATOR, FakeOrchestrator()), responses=log
        )
        server = await Server(bindings, Settings(port=0, drain_timeout_s=10)).__aenter__()
        client = remote(NATIVE, server.address)
        call = Call.root(timeout_s=20, metadata=metadata)
        if is_second:
            assert (await _collect(client.stream_generate(request, call)))[-1].HasField("end")
            assert call.response_headers["x-quartet-replayed"] == "true"
        else:
            async with aclosing(client.stream_generate(request, call)) as events:
                await anext(events)
        await client.close()
        stopping = asyncio.create_task(server.__aexit__(None, None, None))
        await asyncio.sleep(0.1)
        assert is_second or not stopping.done()
        router.pause.set()
        await stopping
    assert len(router.prompts) == 1
    await store.close()


async def test_what_is_kept_has_an_end_and_names_no_client_s_key(pair: Pair, redis_url: str) -> None:
    gateway = pair.gateways[0]
    await gateway.generate(ask(), pair.call(idempotency_key="secret of theirs"))
    async with Redis.from_url(redis_url) as redis:
        (name,) = await redis.keys("*")
        assert str(name).startswith("b'quartet:{acme}:answer:")
        assert "secret" not in str(name)
        assert 24 * 3600 - 30 < await redis.ttl(name) <= 24 * 3600


async def test_an_owner_that_died_frees_its_claim(redis_url: str) -> None:
    store = RedisResponseLog(redis_url, claim_timeout_s=5.0)
    assert await store.claim(SLOT, "f", "dies", 1.5) is None
    assert await store.append(SLOT, "dies", Kind.GOING, start=0, messages=(b"head",), expire_s=1.5)
    assert await store.claim(SLOT, "f", "waits", 10.0) == "f"
    entries = await store.read(SLOT, "")
    assert entries is not None
    assert [entry.kind for entry in entries] == [Kind.CLAIMED, Kind.GOING]
    await asyncio.sleep(1.6)
    assert await store.read(SLOT, entries[-1].cursor) is None
    assert not await store.append(SLOT, "dies", Kind.DONE, start=1, messages=(), expire_s=10.0)
    assert await store.claim(SLOT, "g", "next", 10.0) is None
    assert not await store.renew(SLOT, "dies", 10.0)
    assert await store.renew(SLOT, "next", 10.0)
    await store.release(SLOT, "dies")
    assert await store.claim(SLOT, "g", "late", 10.0) == "g"
    await store.release(SLOT, "next")
    assert await store.claim(SLOT, "g", "late", 10.0) is None
    await store.close()


async def test_a_failure_and_a_cut_are_told_to_who_follows(redis_url: str) -> None:
    store = RedisResponseLog(redis_url, claim_timeout_s=5.0)
    await store.claim(SLOT, "f", "a", 10.0)
    await store.append(SLOT, "a", Kind.GOING, start=0, messages=(b"x", b"", b"y"), expire_s=10.0)
    read = await store.read(SLOT, "")
    assert read is not None
    assert read[-1].messages == (b"x", b"", b"y")
    await store.append(SLOT, "a", Kind.CUT, start=3, messages=(), expire_s=10.0)
    (cut,) = await behind(store, read[-1].cursor)
    assert (cut.kind, cut.owner, cut.fingerprint) == (Kind.CUT, "a", "f")
    assert await store.claim(SLOT, "f", "b", 10.0) == "f"
    await store.append(SLOT, "a", Kind.FAILED, start=3, messages=(b"why",), expire_s=10.0)
    assert await store.claim(SLOT, "g", "b", 10.0) is None
    (claimed,) = await behind(store, cut.cursor)
    assert (claimed.kind, claimed.owner) == (Kind.CLAIMED, "b")
    await store.close()


async def test_a_long_answer_is_cut_in_redis_and_not_for_its_client(pair: Pair, redis_url: str) -> None:
    pair.router.deltas = say(*("x" * 1000 for _ in range(150)))
    first, second = pair.gateways
    request = StreamGenerateRequest(generation=generation(idempotency_key="k"))
    assert len(await _collect(first.stream_generate(request, pair.call()))) == 152
    with pytest.raises(FailedPrecondition):
        await _collect(second.stream_generate(request, pair.call()))
    async with Redis.from_url(redis_url) as redis:
        (name,) = await redis.keys("*")
        assert (await redis.memory_usage(name) or 0) < 10_000


async def test_a_redis_that_hangs_is_decided_on_in_time() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = RedisResponseLog(f"redis://127.0.0.1:{port}", claim_timeout_s=0.05)
    async with asyncio.timeout(10):  # the driver itself would wait for ever
        with pytest.raises(StoreUnavailableError):
            await store.claim(SLOT, "f", "a", 10.0)
    await store.close()
    server.close()
    await server.wait_closed()


async def test_a_redis_that_comes_back_is_used_again(redis_url: str) -> None:
    store = RedisResponseLog(redis_url, claim_timeout_s=5.0)
    assert await store.claim(SLOT, "f", "a", 10.0) is None
    async with Redis.from_url(redis_url) as redis:
        await redis.script_flush()
        for client in await redis.client_list():
            if client["id"] != str(await redis.client_id()):
                await redis.client_kill_filter(_id=client["id"])
    assert await store.claim(SLOT, "f", "b", 10.0) == "f"
    await store.close()


async def behind(store: RedisResponseLog, cursor: str) -> list[Entry]:
    entries = await store.read(SLOT, cursor)
    assert entries is not None
    return entries


async def _collect(stream: Any) -> list[Any]:
    return [event async for event in stream]
