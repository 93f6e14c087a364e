from asyncio import gather
from collections.abc import AsyncIterator
from typing import Any

import pytest

from quartet.common.v1 import document_pb2 as documents
from quartet.common.v1 import message_pb2, run_pb2
from quartet.gateway.v1 import document_pb2, gateway_pb2
from quartet.gateway.v1 import run_pb2 as runs_pb2
from quartet.orchestrator.v1 import orchestrator_pb2
from quartet.pipeline.v1 import pipeline_pb2
from services.gateway.domain.keys import make_key
from services.kit.errors import InvalidArgument, NotFound, PermissionDenied, Unauthenticated
from tests.contract.gateway.conftest import Gateway, read_to_error


async def pieces() -> AsyncIterator[document_pb2.IngestDocumentsRequest]:
    yield document_pb2.IngestDocumentsRequest(collection="docs")
    yield document_pb2.IngestDocumentsRequest(header=documents.DocumentHeader(source="a.md"))
    yield document_pb2.IngestDocumentsRequest(data=b"# A")


async def test_documents_stream_through(gateway: Gateway) -> None:
    client = gateway.clients["DocumentService"]
    response = await client.ingest_documents(pieces(), gateway.call())
    assert response.job.id == "j1"
    kinds = [piece.WhichOneof("piece") for piece in gateway.pipeline.pieces]
    assert kinds == ["collection", "header", "data"]


async def test_a_search_is_a_retrieval(gateway: Gateway) -> None:
    request = document_pb2.SearchRequest(collection="docs", query="moon", top_k=3)
    response = await gateway.clients["DocumentService"].search(request, gateway.call())
    assert response.passages[0].text == "moon"


async def test_what_is_said_of_caches_goes_with_searches_documents_and_runs(gateway: Gateway) -> None:
    request = document_pb2.SearchRequest(collection="docs", query="moon")
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text="Go")])
    tasks = [
        run_pb2.Task(messages=[message]),
        run_pb2.Task(messages=[message], cache_control="no-cache"),
    ]
    call = gateway.call(cache_control="private, No-Store")
    await gateway.clients["DocumentService"].search(request, call)
    await gateway.clients["DocumentService"].ingest_documents(pieces(), call)
    for task in tasks:
        await gateway.clients["RunService"].start_run(runs_pb2.StartRunRequest(task=task), call)
    assert [asked.cache_control for asked in gateway.pipeline.searches] == ["no-store"]
    assert gateway.pipeline.pieces[0].cache_control == "no-store"
    # The body, where it says something itself, counts.
    assert [task.cache_control for task in gateway.orchestrator.tasks] == ["no-store", "no-cache"]


async def test_a_task_says_nothing_else_of_caches(gateway: Gateway) -> None:
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text="Go")])
    request = runs_pb2.StartRunRequest(task=run_pb2.Task(messages=[message], cache_control="NO-STORE"))
    with pytest.raises(InvalidArgument):
        await gateway.clients["RunService"].start_run(request, gateway.call())
    assert not gateway.orchestrator.tasks


async def test_a_peers_error_comes_through_whole(gateway: Gateway) -> None:
    request = document_pb2.SearchRequest(collection="missing", query="moon")
    with pytest.raises(NotFound) as caught:
        await gateway.clients["DocumentService"].search(request, gateway.call())
    assert caught.value.reason == "COLLECTION_NOT_FOUND"


async def test_a_watched_job_streams_and_ends_with_the_peers_error(gateway: Gateway) -> None:
    request = document_pb2.WatchIngestJobRequest(job_id="j1")
    watched = gateway.clients["DocumentService"].watch_ingest_job(request, gateway.call())
    seen, error = await read_to_error(watched)
    assert [response.job.done_documents for response in seen] == [0, 1]
    assert isinstance(error, NotFound)


async def test_a_run_is_started_at_the_orchestrator(gateway: Gateway) -> None:
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text="Go")])
    request = runs_pb2.StartRunRequest(task=run_pb2.Task(messages=[message], collection="docs"))
    response = await gateway.clients["RunService"].start_run(request, gateway.call())
    assert response.run.id == "r1"
    assert gateway.orchestrator.tasks[0].collection == "docs"


async def test_a_run_that_names_no_collection_reads_the_default_one(gateway: Gateway) -> None:
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text="Go")])
    request = runs_pb2.StartRunRequest(task=run_pb2.Task(messages=[message]))
    await gateway.clients["RunService"].start_run(request, gateway.call())
    assert gateway.orchestrator.tasks[0].collection == "default"


async def test_nothing_passes_without_a_key(gateway: Gateway) -> None:
    call = gateway.call()
    call.metadata = {"x-api-key": "qk_000000000000_" + "0" * 64}
    with pytest.raises(Unauthenticated):
        await gateway.clients["DocumentService"].ingest_documents(pieces(), call)
    assert not gateway.pipeline.pieces


async def test_a_word_on_an_answer_reaches_the_router(gateway: Gateway) -> None:
    request = gateway_pb2.RecordOutcomeRequest(trace_id="0" * 31 + "1", score=0.5, comment="so so")
    await gateway.clients["GatewayService"].record_outcome(request, gateway.call())
    assert [(kept.trace_id, kept.score, kept.comment) for kept in gateway.router.outcomes] == [
        ("0" * 31 + "1", 0.5, "so so")
    ]


async def test_the_policies_comparison_comes_from_the_router(gateway: Gateway) -> None:
    request = gateway_pb2.ComparePoliciesRequest()
    response = await gateway.clients["GatewayService"].compare_policies(request, gateway.call())
    assert [(row.route, row.decisions, row.disagreements) for row in response.routes] == [("complex", 10, 4)]


@pytest.mark.parametrize("collection", ["docs", "secret"])
async def test_by_its_id_nothing_of_another_collection_is_reached(gateway: Gateway, collection: str) -> None:
    gateway.pipeline.collection = gateway.orchestrator.collection = collection
    key, gateway.secret = make_key(tenant="acme", scopes=frozenset({"collection:docs"}))
    gateway.keys.keys[key.id] = key
    documents, runs = gateway.clients["DocumentService"], gateway.clients["RunService"]
    answers = (
        documents.get_document(document_pb2.GetDocumentRequest(document_id="x"), gateway.call()),
        documents.delete_document(document_pb2.DeleteDocumentRequest(document_id="x"), gateway.call()),
        documents.get_ingest_job(document_pb2.GetIngestJobRequest(job_id="x"), gateway.call()),
        documents.cancel_ingest_job(document_pb2.CancelIngestJobRequest(job_id="x"), gateway.call()),
        runs.get_run(runs_pb2.GetRunRequest(run_id="x"), gateway.call()),
        runs.cancel_run(runs_pb2.CancelRunRequest(run_id="x"), gateway.call()),
    )
    refused = [isinstance(one, PermissionDenied) for one in await gather(*answers, return_exceptions=True)]
    for stream in (
        documents.watch_ingest_job(document_pb2.WatchIngestJobRequest(job_id="x"), gateway.call()),
        runs.watch_run(runs_pb2.WatchRunRequest(run_id="x"), gateway.call()),
    ):
        _, error = await read_to_error(stream)
        refused.append(isinstance(error, PermissionDenied))
    assert refused == [collection == "secret"] * 8
    changed = [*gateway.pipeline.deleted, *gateway.orchestrator.deleted]
    assert changed == ([] if collection == "secret" else ["x"] * 3)


@pytest.mark.parametrize(
    ("scopes", "seen"),
    [
        ({"*"}, None),
        ({"rpc:ListRuns", "rpc:ListCollections"}, None),
        ({"collection:docs", "collection:space"}, ["docs", "space"]),
        ({"model:gpt-6-luna"}, []),
    ],
)
async def test_a_key_lists_what_is_of_its_collections(
    gateway: Gateway, scopes: set[str], seen: list[str] | None
) -> None:
    key, gateway.secret = make_key(tenant="acme", scopes=frozenset(scopes))
    gateway.keys.keys[key.id] = key
    # As a client could write it that knows the inner contract.
    wish = documents.CollectionFilter(names=["secret"])
    collections = pipeline_pb2.ListCollectionsRequest(page_size=7, collections=wish).SerializeToString()
    runs = orchestrator_pb2.ListRunsRequest(page_size=7, collections=wish).SerializeToString()
    await gateway.clients["DocumentService"].list_collections(
        document_pb2.ListCollectionsRequest.FromString(collections), gateway.call()
    )
    await gateway.clients["RunService"].list_runs(runs_pb2.ListRunsRequest.FromString(runs), gateway.call())
    every: list[Any] = [*gateway.pipeline.listed, *gateway.orchestrator.listed]
    for asked in every:
        assert asked.page_size == 7
        assert (list(asked.collections.names) if asked.HasField("collections") else None) == seen
    assert len(every) == 2
