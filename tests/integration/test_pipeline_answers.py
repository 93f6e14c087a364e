import asyncio
from pathlib import Path

import pytest

from quartet.common.v1 import generation_pb2, message_pb2
from quartet.pipeline.v1 import pipeline_pb2 as pb
from services.kit import telemetry
from services.kit.errors import InvalidArgument, NotFound, Unavailable
from services.kit.settings import KitSettings
from services.kit.testing import receive_otlp
from services.pipeline.settings import Settings
from tests.doubles.pipeline import MOON, SUN, ask, ingest, make_call, pipeline_service
from tests.doubles.router import FakeRouter

STAGES = ["chunk", "embed", "retrieve", "augment", "generate", "validate"]
LIGHT = "In how many minutes does light from the Sun reach the Earth?"


async def test_a_question_is_answered_with_a_citation_that_resolves(database_url: str) -> None:
    router = FakeRouter()
    async with pipeline_service(database_url, router) as service:
        await ingest(service, {"moon.md": MOON, "sun.txt": SUN})
        answer = await service.run(pb.RunRequest(input=ask(LIGHT)), make_call())

        assert [stage.stage for stage in answer.stages] == STAGES
        assert all(check.passed for check in answer.stages[-1].checks)
        (citation,) = answer.completion.message.parts[0].citations
        request = pb.GetDocumentRequest(document_id=citation.document_id)
        got = await service.get_document(request, make_call())
        assert got.document.text[citation.start_char : citation.end_char] == citation.quote
        assert got.document.source == "sun.txt"
        # One call embeds the question, one answers.
        assert answer.completion.usage.model_calls == 2
        assert answer.completion.usage.output_tokens == 10

    (prompt,) = router.prompts
    assert prompt.models_only
    assert prompt.target.route == "technical"
    assert prompt.spec.max_output_tokens == 2000
    kinds = [part.WhichOneof("kind") for part in prompt.messages[-1].parts]
    assert kinds == ["passage", "passage", "text"]
    assert prompt.messages[0].role == message_pb2.ROLE_SYSTEM


async def test_what_the_caller_says_of_caches_reaches_every_call(database_url: str) -> None:
    router = FakeRouter()
    asked = ask(LIGHT)
    asked.cache_control = "no-store"
    search = pb.RetrieveRequest(collection="space", query=LIGHT, cache_control="no-cache")
    async with pipeline_service(database_url, router) as service:
        await ingest(service, {"sun.txt": SUN})
        embedded = len(router.embed_requests)
        await service.run(pb.RunRequest(input=asked), make_call())
        await service.retrieve(search, make_call())
        await service.retrieve(pb.RetrieveRequest(collection="space", query=LIGHT), make_call())
    assert [prompt.cache_control for prompt in router.prompts] == ["no-store"]
    said = [request.cache_control for request in router.embed_requests[embedded:]]
    assert said == ["no-store", "no-cache", ""]


async def test_a_stream_brings_stages_and_words_and_ends_with_the_whole_answer(database_url: str) -> None:
    async with pipeline_service(database_url, FakeRouter()) as service:
        await ingest(service, {"sun.txt": SUN})
        request = pb.StreamRunRequest(input=ask(LIGHT))
        events = [event async for event in service.stream_run(request, make_call())]

    assert [event.stage.stage for event in events if event.WhichOneof("event") == "stage"] == STAGES
    text = "".join(event.delta.text for event in events if event.WhichOneof("event") == "delta")
    end = events[-1].end
    assert end.message.parts[0].text == text
    assert end.message.parts[0].citations[0].quote == "The Sun is a star."
    assert end.usage.model_calls == 2
    names = [event.WhichOneof("event") for event in events]
    assert names.index("delta") < len(names) - 3, "words come while they are made, not at the end"


async def test_nothing_near_enough_is_said_and_no_model_is_asked(database_url: str) -> None:
    router = FakeRouter()
    async with pipeline_service(database_url, router) as service:
        await ingest(service, {"sun.txt": SUN})
        answer = await service.run(pb.RunRequest(input=ask("unrelated cheese recipes")), make_call())

    completion = answer.completion
    assert completion.finish_reason == generation_pb2.FINISH_REASON_ABORTED
    assert completion.message.parts[0].text == completion.stop_detail
    assert "near enough" in completion.stop_detail
    assert [stage.stage for stage in answer.stages] == STAGES[:3]
    assert answer.stages[-1].abort_reason == completion.stop_detail
    assert router.prompts == []


async def test_a_document_in_the_request_is_searched_without_any_collection(database_url: str) -> None:
    asked = ask("How many legs does a spider have?", collection="")
    media = message_pb2.Media(mime_type="text/markdown", filename="spiders.md")
    media.data = b"# Spiders\n\nA spider does have eight legs.\n\n# Flies\n\nFlies have wings.\n"
    asked.messages[0].parts.add(document=media)
    router = FakeRouter()
    async with pipeline_service(database_url, router) as service:
        answer = await service.run(pb.RunRequest(input=asked), make_call())

    assert answer.completion.finish_reason == generation_pb2.FINISH_REASON_STOP
    (citation,) = answer.completion.message.parts[0].citations
    assert (citation.document_id, citation.title) == ("inline-1", "spiders.md")
    sent = [part.WhichOneof("kind") for message in router.prompts[0].messages for part in message.parts]
    assert "document" not in sent


async def test_a_broken_document_in_the_request_is_refused_with_its_name(database_url: str) -> None:
    asked = ask("What does it say?", collection="")
    broken = message_pb2.Media(mime_type="application/pdf", filename="a.pdf", data=b"%PDF broken")
    asked.messages[0].parts.add(document=broken)
    async with pipeline_service(database_url, FakeRouter()) as service:
        with pytest.raises(InvalidArgument, match=r"'a\.pdf'.*not a sound PDF"):
            await service.run(pb.RunRequest(input=asked), make_call())


async def test_a_failed_check_is_flagged_and_a_strict_pipeline_answers_with_the_reason(
    database_url: str, tmp_path: Path
) -> None:
    shipped = (Settings().config_dir / "pipelines.yaml").read_text(encoding="utf-8")
    assert shipped.count("on_failure: flag") == 2
    (tmp_path / "pipelines.yaml").write_text(
        shipped.replace("on_failure: flag", "on_failure: abort"), encoding="utf-8"
    )
    router = FakeRouter("Light from the Sun reaches Mars in 13 minutes.")
    async with pipeline_service(database_url, router) as service:
        await ingest(service, {"sun.txt": SUN})
        flagged = await service.run(pb.RunRequest(input=ask(LIGHT)), make_call())
    async with pipeline_service(database_url, router, config_dir=tmp_path) as service:
        request = pb.StreamRunRequest(input=ask(LIGHT))
        events = [event async for event in service.stream_run(request, make_call())]

    checks = {check.name: check for check in flagged.stages[-1].checks}
    assert not checks["no_hallucination"].passed
    assert "'13'" in checks["no_hallucination"].detail
    assert not checks["has_citations"].passed
    assert flagged.completion.message.parts[0].text == router.answer

    said = "".join(event.delta.text for event in events if event.WhichOneof("event") == "delta")
    assert "Mars in 13 minutes" not in said.partition(":")[0]
    assert said == events[-1].end.stop_detail
    assert events[-1].end.finish_reason == generation_pb2.FINISH_REASON_ABORTED
    assert events[-1].end.usage.output_tokens == 10


async def test_an_unknown_collection_or_pipeline_is_named_with_what_to_do(database_url: str) -> None:
    async with pipeline_service(database_url, FakeRouter()) as service:
        with pytest.raises(NotFound, match=r"quartet ingest PATH --collection space"):
            await service.run(pb.RunRequest(input=ask(LIGHT)), make_call())
        with pytest.raises(NotFound, match="quartet ingest PATH --collection default"):
            await service.retrieve(pb.RetrieveRequest(query="x"), make_call())
        with pytest.raises(NotFound, match="there are rag_answer"):
            await service.run(pb.RunRequest(input=ask(LIGHT, pipeline="rag")), make_call())


async def test_a_peers_error_reaches_the_caller_as_it_is(database_url: str) -> None:
    router = FakeRouter()
    async with pipeline_service(database_url, router) as service:
        await ingest(service, {"sun.txt": SUN})
        router.embed_failures.append(Unavailable("the model is away", reason="EMBEDDER_AWAY"))
        with pytest.raises(Unavailable, match="the model is away") as failure:
            await service.run(pb.RunRequest(input=ask(LIGHT)), make_call())
    assert failure.value.reason == "EMBEDDER_AWAY"


async def test_each_stage_has_a_span_and_the_call_of_the_model_is_its_child(database_url: str) -> None:
    async with receive_otlp() as receiver:
        sending = telemetry.configure("pipeline", KitSettings(otlp_endpoint=receiver.endpoint))
        try:
            async with pipeline_service(database_url, FakeRouter()) as service:
                await ingest(service, {"sun.txt": SUN})
                with telemetry.tracer().start_as_current_span("question") as root:
                    trace_id = f"{root.get_span_context().trace_id:032x}"
                    request = pb.StreamRunRequest(input=ask(LIGHT))
                    async for _ in service.stream_run(request, make_call()):
                        pass
            await asyncio.to_thread(sending.flush)
            spans = {span.name: span for span in await receiver.wait_for(10, trace_id=trace_id)}
        finally:
            await asyncio.to_thread(sending.shutdown)
            telemetry.reset()

    served = spans["quartet.pipeline.v1.PipelineService/StreamRun"]
    stages = [
        "stage chunk",
        "stage embed",
        "retrieval space",
        "stage augment",
        "stage generate",
        "stage validate",
    ]
    assert all(spans[name].parent_id == served.span_id for name in stages)
    assert spans["retrieval space"].attributes["gen_ai.data_source.id"] == "space"
    generated = spans["quartet.router.v1.RouterService/StreamGenerate"]
    assert generated.parent_id == spans["stage generate"].span_id
    assert spans["quartet.router.v1.RouterService/Embed"].parent_id == spans["stage embed"].span_id
