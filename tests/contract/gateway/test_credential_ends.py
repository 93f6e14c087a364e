"""Calls under way end when the credential they came with does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from quartet.gateway.v1 import document_pb2, gateway_pb2, run_pb2, tenant_pb2
from services.gateway.domain.keys import make_key
from services.gateway.settings import Settings
from services.gateway.wiring import ORCHESTRATOR, PIPELINE, ROUTER, build
from services.kit.call import Call
from services.kit.errors import Unauthenticated
from services.kit.testing import KINDS, client_of
from tests.contract.gateway.conftest import read_to_error
from tests.contract.gateway.neighbours import FakeOrchestrator, FakePipeline, FakeRouter
from tests.contract.gateway.test_keys import keep
from tests.doubles.issuer import AUDIENCE, ISSUER, Issuer

PATIENCE_S = 10
CHAT = b'{"model":"auto","stream":true,"messages":[{"role":"user","content":"x"}]}'
MESSAGE = b'{"model":"auto","stream":true,"max_tokens":9,"messages":[{"role":"user","content":"x"}]}'


@dataclass(slots=True, kw_only=True)
class Suite:
    """A gateway whose answers do not end by themselves, and two keys of `acme`."""

    database_url: str
    router: FakeRouter
    pipeline: FakePipeline
    orchestrator: FakeOrchestrator
    issuer: Issuer
    clients: dict[str, Any] = field(default_factory=dict)
    secret: str
    other_secret: str

    async def execute(self, statement: str) -> None:
        async with await psycopg.AsyncConnection.connect(self.database_url) as connection:
            await connection.execute(statement.encode())

    def call(self, secret: str = "") -> Call:
        metadata = {"authorization": f"Bearer {secret or self.secret}"}
        return Call.root(timeout_s=PATIENCE_S, metadata=metadata)

    def stream(self, secret: str = "") -> AsyncIterator[Any]:
        request = gateway_pb2.StreamGenerateRequest()
        request.generation.messages.add(role=2).parts.add(text="x")
        answer: AsyncIterator[Any] = self.clients["GatewayService"].stream_generate(
            request, self.call(secret)
        )
        return answer

    def watch_run(self) -> AsyncIterator[Any]:
        request = run_pb2.WatchRunRequest(run_id="r1")
        events: AsyncIterator[Any] = self.clients["RunService"].watch_run(request, self.call())
        return events

    async def revoke(self) -> None:
        await self.execute("update gateway.api_keys set revoke_time = now() where name = ''")


@pytest_asyncio.fixture(params=KINDS)
async def suite(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Suite]:
    key, secret = make_key(tenant="acme", scopes=frozenset({"*"}))
    other, other_secret = make_key(tenant="acme", scopes=frozenset({"*"}))
    await keep(database_url, key)
    await keep(database_url, other)
    pause = asyncio.Event()
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(Issuer().serve())
        suite = Suite(
            database_url=database_url,
            router=FakeRouter(pause=pause),
            pipeline=FakePipeline(pause=pause),
            orchestrator=FakeOrchestrator(pause=pause),
            issuer=issuer,
            secret=secret,
            other_secret=other_secret,
        )
        await suite.execute(f"update gateway.api_keys set name = 'other' where id = '{other.id}'")
        peers = {ROUTER: suite.router, PIPELINE: suite.pipeline, ORCHESTRATOR: suite.orchestrator}
        settings = Settings(
            database_url=database_url,
            redis_url="",
            jwt_issuer=ISSUER,
            jwt_audience=AUDIENCE,
            jwt_key_set=issuer.url,
        )
        for binding in await stack.enter_async_context(build(settings, peers)):
            client = await stack.enter_async_context(
                client_of(request.param, binding.service_name, binding.service)
            )
            suite.clients[binding.service_name.rpartition(".")[2]] = client
        yield suite


async def test_a_native_stream_ends_with_a_typed_error_and_leaves_the_others(suite: Suite) -> None:
    mine, others_events = suite.stream(), suite.stream(suite.other_secret)
    for events in (mine, others_events):
        for kind in ("decision", "delta"):
            assert (await anext(events)).WhichOneof("event") == kind
    others = asyncio.create_task(read_to_error(others_events))
    await suite.revoke()
    rest, error = await read_to_error(mine)
    assert not rest
    assert isinstance(error, Unauthenticated)
    assert error.reason == "CREDENTIAL_ENDED"
    assert suite.router.closed.is_set()
    await asyncio.sleep(0.6)
    assert not others.done()
    assert suite.router.pause is not None
    suite.router.pause.set()
    assert (await others)[1] is None


@pytest.mark.parametrize(
    ("service", "method", "body"),
    [
        ("OpenAIService", "create_chat_completion", CHAT),
        ("AnthropicService", "create_message", MESSAGE),
    ],
)
async def test_a_dialects_stream_ends_with_an_error_in_its_own_shape(
    suite: Suite, service: str, method: str, body: bytes
) -> None:
    send = getattr(suite.clients[service], method)
    frames: list[bytes] = []
    async with asyncio.timeout(PATIENCE_S):
        async for answer in send(HttpBody(data=body), suite.call()):
            if not frames:
                await suite.revoke()
            frames.append(answer.data)
    word = b'"authentication_error"' if service == "AnthropicService" else b'"CREDENTIAL_ENDED"'
    assert word in frames[-1]


async def test_a_whole_answer_is_refused_late_rather_than_given(suite: Suite) -> None:
    request = gateway_pb2.GenerateRequest()
    request.generation.messages.add(role=2).parts.add(text="x")
    asking = asyncio.create_task(suite.clients["GatewayService"].generate(request, suite.call()))
    await suite.router.asked.wait()
    await suite.revoke()
    with pytest.raises(Unauthenticated) as caught:
        await asking
    assert caught.value.reason == "CREDENTIAL_ENDED"
    assert suite.router.closed.is_set()


async def test_whoever_watches_a_job_no_longer_sees_it(suite: Suite) -> None:
    request = document_pb2.WatchIngestJobRequest(job_id="j1")
    watching = suite.clients["DocumentService"].watch_ingest_job(request, suite.call())
    assert (await anext(watching)).job.id == "j1"
    await suite.execute("update gateway.api_keys set expire_time = now() where name = ''")
    _, error = await read_to_error(watching)
    assert isinstance(error, Unauthenticated)


async def test_whoever_watches_a_run_no_longer_sees_it(suite: Suite) -> None:
    watching = suite.watch_run()
    assert (await anext(watching)).event.number == 1
    await suite.revoke()
    _, error = await read_to_error(watching)
    assert isinstance(error, Unauthenticated)
    assert error.reason == "CREDENTIAL_ENDED"


async def test_a_run_that_is_to_be_started_is_refused(suite: Suite) -> None:
    request = run_pb2.StartRunRequest()
    request.task.messages.add(role=2).parts.add(text="x")
    starting = asyncio.create_task(suite.clients["RunService"].start_run(request, suite.call()))
    await suite.orchestrator.asked.wait()
    await suite.revoke()
    with pytest.raises(Unauthenticated) as caught:
        await starting
    assert caught.value.reason == "CREDENTIAL_ENDED"


async def test_what_streams_to_a_tenant_ends_when_the_tenant_is_deleted(suite: Suite) -> None:
    operator, secret = make_key(tenant="house", scopes=frozenset({"tenants"}))
    await keep(suite.database_url, operator)
    streams = [suite.watch_run(), suite.stream(), suite.stream(suite.issuer.token())]
    for stream in streams:
        await anext(stream)
    request = tenant_pb2.DeleteTenantRequest(tenant_id="acme")
    deleting = asyncio.create_task(suite.clients["TenantService"].delete_tenant(request, suite.call(secret)))
    ends = await asyncio.gather(*(read_to_error(stream) for stream in streams))
    assert not deleting.done()  # their data goes when they have ended
    assert [error.reason for _, error in ends if error] == ["CREDENTIAL_ENDED"] * len(streams)
    await deleting


async def test_an_upload_ends_too(suite: Suite) -> None:
    sent = asyncio.Event()

    async def pieces() -> AsyncIterator[document_pb2.IngestDocumentsRequest]:
        yield document_pb2.IngestDocumentsRequest(collection="docs")
        sent.set()
        await asyncio.Event().wait()

    uploading = asyncio.create_task(suite.clients["DocumentService"].ingest_documents(pieces(), suite.call()))
    await sent.wait()
    await suite.revoke()
    with pytest.raises(Unauthenticated):
        await uploading


async def test_the_streams_of_a_token_end_with_its_tenant(suite: Suite) -> None:
    events = suite.stream(suite.issuer.token())
    await anext(events)
    reading = asyncio.create_task(read_to_error(events))
    await asyncio.sleep(0.8)
    assert not reading.done()
    await suite.execute("delete from gateway.tenants")
    _, error = await reading
    assert isinstance(error, Unauthenticated)
    assert error.reason == "CREDENTIAL_ENDED"
