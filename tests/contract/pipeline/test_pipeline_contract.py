"""The contract, called in process and over gRPC: a caller cannot tell which."""

from collections.abc import AsyncIterator

import pytest

from quartet.common.v1 import document_pb2
from quartet.pipeline.v1 import pipeline_pb2 as pb
from services.kit.call import Call
from services.kit.errors import DataLoss, InvalidArgument, NotFound, ResourceExhausted
from services.kit.testing import KINDS, client_of
from services.pipeline.wiring import SERVICE
from tests.doubles.pipeline import MOON, SUN, ask, ingest, make_call, pipeline_object, wait_for_job
from tests.doubles.router import FakeRouter


@pytest.mark.parametrize("kind", KINDS)
async def test_every_rpc_is_served_alike_in_process_and_over_grpc(kind: str, database_url: str) -> None:
    router = FakeRouter()
    async with (
        pipeline_object(database_url, router) as service,
        client_of(kind, SERVICE, service) as client,
    ):
        listed = await client.list_pipelines(pb.ListPipelinesRequest(), make_call())
        assert [pipeline.name for pipeline in listed.pipelines] == ["rag_answer"]

        ended = await ingest(client, {"moon.md": MOON, "sun.txt": SUN})
        assert ended.state == document_pb2.INGEST_STATE_SUCCEEDED
        got = await client.get_ingest_job(pb.GetIngestJobRequest(job_id=ended.id), make_call())
        assert got.job == ended

        request = pb.RetrieveRequest(collection="space", query="Light from the Sun", top_k=1)
        (passage,) = (await client.retrieve(request, make_call())).passages
        assert (passage.source, passage.collection) == ("sun.txt", "space")

        answer = await client.run(pb.RunRequest(input=ask("light from the Sun")), make_call())
        stream = client.stream_run(pb.StreamRunRequest(input=ask("light from the Sun")), make_call())
        events = [event async for event in stream]
        assert events[-1].end.message.parts[0].citations == answer.completion.message.parts[0].citations


@pytest.mark.parametrize("kind", KINDS)
async def test_a_pipelines_answer_comes_from_the_models_of_the_key(kind: str, database_url: str) -> None:
    router = FakeRouter()
    async with (
        pipeline_object(database_url, router) as service,
        client_of(kind, SERVICE, service) as client,
    ):
        await ingest(client, {"sun.txt": SUN})
        call = Call.root(timeout_s=60, tenant="acme", models=("gpt-6-luna",))
        await client.run(pb.RunRequest(input=ask("light from the Sun")), call)
        async for _ in client.stream_run(pb.StreamRunRequest(input=ask("light from the Sun")), call):
            pass
    assert router.models == [("gpt-6-luna",)] * 2


@pytest.mark.parametrize("kind", KINDS)
async def test_errors_arrive_whole(kind: str, database_url: str) -> None:
    router = FakeRouter()
    async with (
        pipeline_object(database_url, router) as service,
        client_of(kind, SERVICE, service) as client,
    ):
        with pytest.raises(NotFound) as missing:
            await client.retrieve(pb.RetrieveRequest(collection="nowhere", query="x"), make_call())
        assert missing.value.reason == "COLLECTION_NOT_FOUND"
        assert missing.value.metadata == {"collection": "nowhere"}

        with pytest.raises(InvalidArgument) as invalid:
            await client.retrieve(pb.RetrieveRequest(query="x", top_k=101), make_call())
        assert invalid.value.field_violations[0].field == "top_k"

        with pytest.raises(NotFound, match="There is no ingest job"):
            await wait_for_job(client, "nobody")

        await ingest(client, {"sun.txt": SUN})
        router.embed_failures.append(ResourceExhausted("full", reason="BUDGET_SPENT", retry_after_s=2.0))
        with pytest.raises(ResourceExhausted) as spent:
            await client.run(pb.RunRequest(input=ask("light")), make_call())
        assert (spent.value.reason, spent.value.retry_after_s) == ("BUDGET_SPENT", 2.0)

        router.embed_failures.append(DataLoss("gone", reason="GONE"))
        stream = client.stream_run(pb.StreamRunRequest(input=ask("light")), make_call())
        seen: list[str] = []
        with pytest.raises(DataLoss) as lost:
            await collect(stream, seen)
        assert lost.value.reason == "GONE"
        assert seen == ["stage"], "what came before the failure was delivered"


async def collect(stream: AsyncIterator[pb.StreamRunResponse], seen: list[str]) -> None:
    async for event in stream:
        seen.append(event.WhichOneof("event") or "")  # noqa: PERF401 - kept when the stream fails
