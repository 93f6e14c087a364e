"""One question is one trace: Envoy at its root, and every hop below the one that made it."""

import asyncio

import openai
import pytest

from services.kit.testing import OtlpReceiver, ReceivedSpan
from tests.doubles.provider import ProviderDouble
from tests.e2e.suite import Suite

POLLS = 75
CHAT, RUN, ROUTE = (
    "quartet.gateway.v1.OpenAIService/CreateChatCompletion",
    "quartet.pipeline.v1.PipelineService/",
    "quartet.router.v1.RouterService/",
)


async def trace_of(suite: Suite, spans: OtlpReceiver, model: str, *, stream: bool) -> list[ReceivedSpan]:
    """Asks through the stock client and waits until every process has told its part."""
    async with openai.AsyncOpenAI(base_url=f"{suite.url}/v1", api_key=suite.api_key, max_retries=0) as client:
        response = await client.chat.completions.with_raw_response.create(
            model=model,
            messages=[{"role": "user", "content": "Where do the vectors live?"}],
            stream=stream,
            # A question whose vector is kept would not be embedded again.
            extra_headers={"cache-control": "no-cache"},
        )
        trace_id = response.headers["x-quartet-trace-id"]
        answer = response.parse()
        if isinstance(answer, openai.AsyncStream):
            async for _ in answer:
                pass
    return await whole_trace(spans, trace_id)


async def whole_trace(spans: OtlpReceiver, trace_id: str) -> list[ReceivedSpan]:
    """The trace once a model call and all above it have come in: each process reports in its own time."""
    trace: list[ReceivedSpan] = []
    for _ in range(POLLS):
        trace = spans.trace(trace_id)
        known = {"", *(span.span_id for span in trace)}
        has_model_call = any(span.name.startswith("chat ") for span in trace)
        if has_model_call and all(span.parent_id in known for span in trace):
            return trace
        await asyncio.sleep(0.2)
    raise AssertionError(f"the model call or parents are missing in {trace}")


async def envoy_s_part(spans: OtlpReceiver, trace_id: str) -> ReceivedSpan:
    for _ in range(POLLS):
        for span in spans.trace(trace_id):
            if span.service == "envoy":
                return span
        await asyncio.sleep(0.2)
    raise AssertionError(f"Envoy told nothing of trace {trace_id}")


def way_to_root(trace: list[ReceivedSpan], span: ReceivedSpan) -> list[str]:
    """The services from a span up to the root, each once for every process that the call passed."""
    by_id = {each.span_id: each for each in trace}
    way = [span.service]
    while span.parent_id:
        span = by_id[span.parent_id]
        if span.service != way[-1]:
            way.append(span.service)
    return way


def the_span(trace: list[ReceivedSpan], service: str, beginning: str) -> ReceivedSpan:
    found = [span for span in trace if span.service == service and span.name.startswith(beginning)]
    assert len(found) == 1, [(span.service, span.name) for span in trace]
    return found[0]


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_a_question_to_the_documents_is_one_trace(
    suite: Suite, spans: OtlpReceiver, stream: bool
) -> None:
    trace = await trace_of(suite, spans, "rag/default", stream=stream)
    roots = [span for span in trace if not span.parent_id]
    assert [root.service for root in roots] == ["envoy"]
    assert the_span(trace, "gateway", CHAT).parent_id == roots[0].span_id
    chat = the_span(trace, "router", "chat local/extractive")
    assert way_to_root(trace, chat) == ["router", "pipeline", "gateway", "envoy"]
    embedding = the_span(trace, "router", "embeddings local/minilm")
    assert way_to_root(trace, embedding) == ["router", "pipeline", "gateway", "envoy"]
    retrieval = the_span(trace, "pipeline", "retrieval default")
    assert way_to_root(trace, retrieval) == ["pipeline", "gateway", "envoy"]
    assert not any("error.type" in span.attributes for span in trace)


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_a_model_call_is_one_trace_with_its_tokens_and_cost(
    configured_suite: Suite, provider: ProviderDouble, spans: OtlpReceiver, stream: bool
) -> None:
    provider.reset()
    trace = await trace_of(configured_suite, spans, "gpt-6-luna", stream=stream)
    assert [span.service for span in trace if not span.parent_id] == ["envoy"]
    chat = the_span(trace, "gateway", "chat gpt-6-luna")
    assert way_to_root(trace, chat) == ["gateway", "envoy"]
    assert chat.attributes["gen_ai.provider.name"] == "openai"
    assert chat.attributes["gen_ai.usage.output_tokens"] > 0
    assert "Where do the vectors live?" not in str([span.attributes for span in trace])


async def test_a_client_s_own_trace_goes_on(suite: Suite, spans: OtlpReceiver) -> None:
    trace_id, parent_id = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    async with openai.AsyncOpenAI(base_url=f"{suite.url}/v1", api_key=suite.api_key, max_retries=0) as client:
        await client.models.list(extra_headers={"traceparent": f"00-{trace_id}-{parent_id}-01"})
    assert (await envoy_s_part(spans, trace_id)).parent_id == parent_id
