import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from quartet.common.v1 import document_pb2
from quartet.pipeline.v1 import pipeline_pb2 as pb
from quartet.router.v1 import router_pb2
from services.kit.call import Call
from services.kit.errors import AlreadyExists, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from services.pipeline.domain import job
from tests.doubles.pipeline import MOON, SUN, ingest, make_call, pipeline_service, upload, wait_for_job
from tests.doubles.router import FakeRouter

PENDING, RUNNING = document_pb2.INGEST_STATE_PENDING, document_pb2.INGEST_STATE_RUNNING


class SlowRouter(FakeRouter):
    """Embeds one batch at a time, when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def embed(self, request: router_pb2.EmbedRequest, call: Call) -> router_pb2.EmbedResponse:
        if request.texts[0] != "dimension":
            self.asked.set()
            await self.go_on.wait()
        return await super().embed(request, call)


async def test_the_same_document_again_is_left_alone_and_a_changed_one_is_replaced(database_url: str) -> None:
    router = FakeRouter()
    async with pipeline_service(database_url, router) as service:
        first = await ingest(service, {"moon.md": MOON, "sun.txt": SUN})
        embedded = len(router.embedded)
        again = await ingest(service, {"moon.md": MOON, "sun.txt": b"The Sun is hot.\n"})
        listed = await service.list_documents(pb.ListDocumentsRequest(collection="space"), make_call())
        found = await service.retrieve(
            pb.RetrieveRequest(collection="space", query="Sun star light", threshold=-1), make_call()
        )
        collections = await service.list_collections(pb.ListCollectionsRequest(), make_call())
        held = [
            await service.list_collections(
                pb.ListCollectionsRequest(collections=document_pb2.CollectionFilter(names=names)), make_call()
            )
            for names in (["elsewhere", "space"], ["elsewhere"], [])
        ]

    assert first.state == again.state == document_pb2.INGEST_STATE_SUCCEEDED
    assert (first.unchanged_documents, again.unchanged_documents) == (0, 1)
    assert router.embedded[embedded:-1] == ["sun.txt\nThe Sun is hot."]
    assert [document.source for document in listed.documents] == ["moon.md", "sun.txt"]
    assert all("Light" not in passage.text for passage in found.passages)
    (collection,) = collections.collections
    assert [list(one.collections) for one in held] == [[collection], [], []]
    assert (collection.document_count, collection.chunk_count) == (2, len(found.passages))


async def test_what_is_said_of_caches_stays_with_the_job(database_url: str) -> None:
    async def pieces(cache_control: str) -> AsyncIterator[pb.IngestDocumentsRequest]:
        async for piece in upload("space", {f"{cache_control or 'any'}.txt": SUN}):
            piece.cache_control = cache_control
            yield piece

    router = FakeRouter()
    async with pipeline_service(database_url, router) as service:
        await ingest(service, {"moon.md": MOON})
        embedded = len(router.embed_requests)
        for cache_control in ("no-store", ""):
            answer = await service.ingest_documents(pieces(cache_control), make_call())
            await wait_for_job(service, answer.job.id)
    assert [request.cache_control for request in router.embed_requests[embedded:]] == ["no-store", ""]


async def test_a_document_that_fails_is_named_with_what_to_do_and_the_job_goes_on(database_url: str) -> None:
    async with pipeline_service(database_url, FakeRouter()) as service:
        ended = await ingest(service, {"a.pdf": b"%PDF broken", "moon.md": MOON})
        listed = await service.list_documents(pb.ListDocumentsRequest(collection="space"), make_call())
    assert ended.state == document_pb2.INGEST_STATE_FAILED
    assert (ended.total_documents, ended.done_documents) == (2, 2)
    (failure,) = ended.failures
    assert failure.source == "a.pdf"
    assert "save it anew" in failure.message
    assert [document.source for document in listed.documents] == ["moon.md"]


async def test_a_router_that_is_away_for_a_moment_costs_no_document(database_url: str) -> None:
    router = FakeRouter()
    async with pipeline_service(database_url, router) as service:
        await ingest(service, {"sun.txt": SUN})
        router.embed_failures = [Unavailable("away"), Unavailable("still away")]
        ended = await ingest(service, {"moon.md": MOON})
    assert ended.state == document_pb2.INGEST_STATE_SUCCEEDED


async def test_a_watched_job_shows_each_change_and_ends(database_url: str) -> None:
    router = SlowRouter()
    async with pipeline_service(database_url, router) as service:
        answer = await service.ingest_documents(upload("space", {"moon.md": MOON, "s.txt": SUN}), make_call())
        watching = asyncio.create_task(wait_for_job(service, answer.job.id))
        await router.asked.wait()
        await asyncio.sleep(0.5)
        assert not watching.done()
        router.go_on.set()
        states = await watching
    assert states[0].state in {PENDING, RUNNING}
    assert states[-1].state == document_pb2.INGEST_STATE_SUCCEEDED
    assert states[-1].HasField("end_time")
    assert all(before != after for before, after in pairwise(states))


async def test_a_cancelled_job_stores_nothing_more(database_url: str) -> None:
    router = SlowRouter()
    async with pipeline_service(database_url, router) as service:
        answer = await service.ingest_documents(upload("space", {"moon.md": MOON, "s.txt": SUN}), make_call())
        await router.asked.wait()
        request = pb.CancelIngestJobRequest(job_id=answer.job.id)
        cancelled = await service.cancel_ingest_job(request, make_call())
        again = await service.cancel_ingest_job(request, make_call())
        router.go_on.set()
        await asyncio.sleep(0.5)
        listed = await service.list_documents(pb.ListDocumentsRequest(collection="space"), make_call())
        now = await service.get_ingest_job(pb.GetIngestJobRequest(job_id=answer.job.id), make_call())
    assert cancelled.job.state == document_pb2.INGEST_STATE_CANCELLED
    assert cancelled == again
    assert now.job == cancelled.job
    assert not listed.documents


async def test_documents_and_collections_of_another_tenant_are_not_there(database_url: str) -> None:
    async with pipeline_service(database_url, FakeRouter()) as service:
        ended = await ingest(service, {"moon.md": MOON})
        listed = await service.list_documents(pb.ListDocumentsRequest(collection="space"), make_call())
        stranger = make_call("other")
        document_id = listed.documents[0].id
        with pytest.raises(NotFound):
            await service.get_document(pb.GetDocumentRequest(document_id=document_id), stranger)
        with pytest.raises(NotFound):
            await service.delete_document(pb.DeleteDocumentRequest(document_id=document_id), stranger)
        with pytest.raises(NotFound):
            await service.get_ingest_job(pb.GetIngestJobRequest(job_id=ended.id), stranger)
        with pytest.raises(NotFound):
            await service.cancel_ingest_job(pb.CancelIngestJobRequest(job_id=ended.id), stranger)
        with pytest.raises(NotFound):
            await service.retrieve(pb.RetrieveRequest(collection="space", query="Moon"), stranger)
        seen = await service.list_collections(pb.ListCollectionsRequest(), stranger)
    assert not seen.collections


async def test_documents_are_listed_page_by_page_and_removed(database_url: str) -> None:
    async with pipeline_service(database_url, FakeRouter()) as service:
        await ingest(service, {f"{name}.txt": f"Text {name}.".encode() for name in "abcde"})
        sources, token = [], ""
        for _ in range(3):
            request = pb.ListDocumentsRequest(collection="space", page_size=2, page_token=token)
            page = await service.list_documents(request, make_call())
            sources += [document.source for document in page.documents]
            token = page.next_page_token
        assert sources == ["a.txt", "b.txt", "c.txt", "d.txt", "e.txt"]
        assert token == ""
        first = page.documents[0].id
        await service.delete_document(pb.DeleteDocumentRequest(document_id=first), make_call())
        with pytest.raises(NotFound, match="There is no document"):
            await service.get_document(pb.GetDocumentRequest(document_id=first), make_call())
        gone = await service.delete_collection(pb.DeleteCollectionRequest(name="space"), make_call())
        assert gone.deleted_documents == 4
        with pytest.raises(NotFound, match="no collection 'space'"):
            await service.delete_collection(pb.DeleteCollectionRequest(name="space"), make_call())
        with pytest.raises(InvalidArgument, match="page_token"):
            await service.list_collections(pb.ListCollectionsRequest(page_token="%%"), make_call())


async def test_a_collection_is_made_once_and_refused_with_other_settings(database_url: str) -> None:
    wanted = document_pb2.Collection(name="space", description="The sky", embedding_model="local/minilm")
    async with pipeline_service(database_url, FakeRouter()) as service:
        made = await service.create_collection(pb.CreateCollectionRequest(collection=wanted), make_call())
        again = await service.create_collection(pb.CreateCollectionRequest(collection=wanted), make_call())
        alias = document_pb2.Collection(name="space", description="The sky", embedding_model="minilm")
        same = await service.create_collection(pb.CreateCollectionRequest(collection=alias), make_call())
        other = document_pb2.Collection(name="space", description="The sea")
        with pytest.raises(AlreadyExists, match="description 'The sky'"):
            await service.create_collection(pb.CreateCollectionRequest(collection=other), make_call())
        unknown = document_pb2.Collection(name="sea", embedding_model="nothing")
        with pytest.raises(NotFound, match="no model 'nothing'"):
            await service.create_collection(pb.CreateCollectionRequest(collection=unknown), make_call())
    assert made == again == same
    assert made.collection.embedding_model == "local/minilm"


async def pieces(*requests: pb.IngestDocumentsRequest) -> AsyncIterator[pb.IngestDocumentsRequest]:
    for request in requests:
        yield request


COLLECTION = pb.IngestDocumentsRequest(collection="space")
HEADER = pb.IngestDocumentsRequest(header=document_pb2.DocumentHeader(source="a.md"))
PROGRAM = pb.IngestDocumentsRequest(header=document_pb2.DocumentHeader(source="a.exe"))
DATA = pb.IngestDocumentsRequest(data=b"text")


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ((), "names the collection"),
        ((HEADER,), "names the collection"),
        ((COLLECTION,), "no document came"),
        ((COLLECTION, DATA), "before a header"),
        ((COLLECTION, HEADER, COLLECTION), "collection once"),
        ((COLLECTION, HEADER, DATA, PROGRAM), r"ending '\.exe'.*\.pdf"),
    ],
)
async def test_a_stream_that_is_out_of_order_is_refused_and_leaves_no_job(
    database_url: str, requests: tuple[pb.IngestDocumentsRequest, ...], message: str
) -> None:
    async with pipeline_service(database_url, FakeRouter()) as service:
        with pytest.raises(InvalidArgument, match=message):
            await service.ingest_documents(pieces(*requests), make_call())
        await ingest(service, {"moon.md": MOON}, collection="other")
        seen = await service.list_documents(pb.ListDocumentsRequest(collection="other"), make_call())
    assert len(seen.documents) == 1


async def test_a_document_that_is_too_big_and_too_many_documents_are_refused(database_url: str) -> None:
    piece = pb.IngestDocumentsRequest(data=b"x" * (4 * 1024 * 1024))
    assert 16 * len(piece.data) == job.MAX_DOCUMENT_BYTES
    async with pipeline_service(database_url, FakeRouter()) as service:
        with pytest.raises(ResourceExhausted, match="more than 64 MiB"):
            await service.ingest_documents(pieces(COLLECTION, HEADER, *[piece] * 17), make_call())
        with pytest.raises(ResourceExhausted, match=r"more than 1,000"):
            await service.ingest_documents(pieces(COLLECTION, *[HEADER] * 1001), make_call())


class OddRouter(FakeRouter):
    """Does something before it embeds documents, and may change what it answers."""

    def __init__(
        self,
        before: Callable[[], Awaitable[None]] | None = None,
        after: Callable[[router_pb2.EmbedRequest, router_pb2.EmbedResponse], None] | None = None,
    ) -> None:
        super().__init__()
        self._before = before
        self._after = after

    async def embed(self, request: router_pb2.EmbedRequest, call: Call) -> router_pb2.EmbedResponse:
        if self._before is not None and request.texts[0] != "dimension":
            await self._before()
        response = await super().embed(request, call)
        if self._after is not None:
            self._after(request, response)
        return response


async def wait_for_end(service: Any, job_id: str) -> None:
    """As `wait_for_job`, also while the database is away."""
    async with asyncio.timeout(60):
        while True:
            try:
                await wait_for_job(service, job_id)
            except Unavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_database_that_restarts_costs_no_document(database_url: str) -> None:
    restarted = asyncio.Event()

    async def restart() -> None:
        if restarted.is_set():
            return
        restarted.set()
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            await connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )

    async with pipeline_service(database_url, OddRouter(before=restart)) as service:
        answer = await service.ingest_documents(upload("space", {"moon.md": MOON, "s.txt": SUN}), make_call())
        await wait_for_end(service, answer.job.id)
        ended = await service.get_ingest_job(pb.GetIngestJobRequest(job_id=answer.job.id), make_call())
    assert ended.job.state == document_pb2.INGEST_STATE_SUCCEEDED, ended.job.failures
    assert ended.job.done_documents == 2


async def test_a_fault_of_ours_costs_one_document_and_not_the_job(database_url: str) -> None:
    def shorten(request: router_pb2.EmbedRequest, response: router_pb2.EmbedResponse) -> None:
        if "Sun" in request.texts[0]:
            response.vectors = response.vectors[:-1]

    async with pipeline_service(database_url, OddRouter(after=shorten)) as service:
        ended = await ingest(service, {"s.txt": SUN, "moon.md": MOON})
    assert ended.state == document_pb2.INGEST_STATE_FAILED
    assert ended.done_documents == 2
    (failure,) = ended.failures
    assert (failure.source, "internal fault" in failure.message) == ("s.txt", True)
