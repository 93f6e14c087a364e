"""The vendors' models in Azure, Amazon Bedrock and Google Vertex answer as the vendors' own do."""

import contextlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import pytest_asyncio

from quartet.common.v1 import generation_pb2 as generation
from quartet.common.v1 import message_pb2 as message
from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.errors import QuartetError
from tests.contract.router.clouds import AZURE, BEDROCK, MODELS, VERTEX, open_router
from tests.contract.router.conftest import Ask
from tests.contract.router.test_conformance import GOLDEN, golden_prompt, send
from tests.doubles.provider import Fault, ProviderDouble, Reply, ToolCall, Usage
from tests.doubles.provider import clouds as doors

QUESTION = "What is the capital of France?"
STATIC_TOKEN = "a-static-token"


@pytest_asyncio.fixture(scope="module")
async def router(
    session_double: ProviderDouble, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Any]:
    """A router with all three clouds."""
    folder = tmp_path_factory.mktemp("clouds")
    async with open_router(folder, session_double, max_retries=0) as client:
        yield client


async def stream(router: Any, prompt: pb.Prompt, call: Call) -> list[pb.StreamGenerateResponse]:
    async with aclosing(router.stream_generate(pb.StreamGenerateRequest(prompt=prompt), call)) as events:
        return [event async for event in events]


def with_tool(prompt: pb.Prompt) -> pb.Prompt:
    prompt.spec.tools.add(name="look", description="Looks.", input_schema_json='{"type": "object"}')
    return prompt


@pytest.mark.parametrize("model", MODELS)
async def test_a_whole_answer_comes_with_its_usage(
    router: Any, double: ProviderDouble, call: Call, ask: Ask, model: str
) -> None:
    usage = Usage(input_tokens=9, output_tokens=5, cached_tokens=4)
    double.script(reply=Reply(text="Paris.", usage=usage))
    answer = (await router.generate(pb.GenerateRequest(prompt=ask(QUESTION, model=model)), call)).completion
    assert answer.message.parts[0].text == "Paris."
    assert answer.model == model
    assert answer.finish_reason == generation.FINISH_REASON_STOP
    counted = answer.usage
    assert (counted.input_tokens, counted.output_tokens, counted.cached_input_tokens) == (9, 5, 4)


@pytest.mark.parametrize("model", MODELS)
async def test_a_stream_comes_in_pieces_with_its_usage(
    router: Any, double: ProviderDouble, call: Call, ask: Ask, model: str
) -> None:
    double.script(
        reply=Reply(text="one two three", usage=Usage(input_tokens=7, output_tokens=3)),
        fault=Fault(chunk_delay_s=0.02),
    )
    events = await stream(router, ask(QUESTION, model=model), call)
    words = [event.delta.text for event in events if event.delta.text]
    assert words == ["one ", "two ", "three"]
    end = events[-1].end
    assert (end.model, end.finish_reason) == (model, generation.FINISH_REASON_STOP)
    assert (end.usage.input_tokens, end.usage.output_tokens) == (7, 3)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
async def test_tools_are_called_and_their_results_read(
    router: Any, double: ProviderDouble, call: Call, ask: Ask, model: str, is_streamed: bool
) -> None:
    double.script(reply=Reply(tool_calls=(ToolCall(name="look", arguments={"at": ["a", 1.5]}),)))
    prompt = with_tool(ask(QUESTION, model=model))
    if is_streamed:
        events = await stream(router, prompt, call)
        pieces = [event.delta.tool_call for event in events if event.delta.HasField("tool_call")]
        made = message.ToolCall(
            id="".join(piece.id for piece in pieces),
            name="".join(piece.name for piece in pieces),
            arguments_json="".join(piece.arguments_json for piece in pieces),
        )
    else:
        answer = (await router.generate(pb.GenerateRequest(prompt=prompt), call)).completion
        assert answer.finish_reason == generation.FINISH_REASON_TOOL_CALLS
        (made,) = (part.tool_call for part in answer.message.parts)
    assert (made.name, made.arguments_json.replace(" ", "")) == ("look", '{"at":["a",1.5]}')
    prompt.messages.add(role=message.ROLE_ASSISTANT).parts.add(tool_call=made)
    result = prompt.messages.add(role=message.ROLE_USER).parts.add().tool_result
    result.tool_call_id = made.id
    result.content.add(text="Nothing there.")
    answer = (await router.generate(pb.GenerateRequest(prompt=prompt), call)).completion
    assert "Nothing there." in answer.message.parts[0].text


async def test_texts_are_embedded_by_azure(router: Any, double: ProviderDouble, call: Call) -> None:
    answer = await router.embed(pb.EmbedRequest(model="azure/embedding", texts=["a", "b"]), call)
    (request,) = double.requests
    assert request.endpoint == "/openai/deployments/text-embedding-3-small/embeddings"
    assert (answer.dimension, len(answer.vectors)) == (1536, 2 * 4 * 1536)


async def test_each_cloud_is_called_at_its_own_address(
    router: Any, double: ProviderDouble, call: Call, ask: Ask
) -> None:
    given = double.clouds.tokens_given
    for model in MODELS:
        await router.generate(pb.GenerateRequest(prompt=ask(QUESTION, model=model)), call)
        await stream(router, ask(QUESTION, model=model), call)
    bedrock = "/model/eu.anthropic.claude-haiku-5-5-v1:0"
    vertex = (
        f"/v1/projects/{doors.GOOGLE_PROJECT}/locations/{doors.GOOGLE_REGION}"
        "/publishers/anthropic/models/claude-haiku-4-5@20251001"
    )
    assert [request.endpoint for request in double.requests] == [
        *["/openai/deployments/luna-east/chat/completions"] * 2,
        f"{bedrock}/invoke",
        f"{bedrock}/invoke-with-response-stream",
        f"{vertex}:rawPredict",
        f"{vertex}:streamRawPredict",
    ]
    assert double.clouds.tokens_given <= given + 1
    assert all(request.headers["user-agent"] == "quartet" for request in double.requests)


async def test_a_vendor_s_model_moves_to_its_cloud_when_the_vendor_fails(
    double: ProviderDouble, call: Call, ask: Ask, tmp_path: Path
) -> None:
    double.script(match="gpt-4.1", fault=Fault(status=503), times=None)
    async with open_router(tmp_path, double, openai_base_url=double.openai_url) as router:
        answer = await router.generate(pb.GenerateRequest(prompt=ask(QUESTION, model="gpt-4.1")), call)
    assert answer.completion.model == "gpt-4.1"
    assert [request.endpoint for request in double.requests] == [
        "/v1/chat/completions",
        "/openai/deployments/luna-east/chat/completions",
    ]


@pytest.mark.parametrize(("model", "older"), [(BEDROCK, "bedrock-2023-05-31"), (VERTEX, "vertex-2023-10-16")])
async def test_the_version_is_the_one_that_has_what_the_request_needs(
    router: Any, double: ProviderDouble, call: Call, ask: Ask, model: str, older: str
) -> None:
    prompt = ask(QUESTION, model=model)
    await router.generate(pb.GenerateRequest(prompt=prompt), call)
    prompt.spec.temperature = 0.5
    await router.generate(pb.GenerateRequest(prompt=prompt), call)
    versions = [request.body["anthropic_version"] for request in double.requests]
    assert versions == ["2026-10-21", older]
    assert all("anthropic-version" not in request.headers for request in double.requests)


@pytest.fixture
async def sdks(router: Any, double: ProviderDouble) -> AsyncIterator[dict[str, Any]]:
    """The vendors' SDKs as they come, each for one model."""
    double.clouds.accept_token(STATIC_TOKEN)
    async with (
        openai.AsyncAzureOpenAI(
            azure_endpoint=double.url,
            api_version=doors.AZURE_VERSION,
            api_key=doors.AZURE_KEY,
            max_retries=0,
        ) as azure,
        anthropic.AsyncAnthropicBedrock(
            aws_access_key=doors.AWS_ACCESS_KEY,
            aws_secret_key=doors.AWS_SECRET_KEY,
            aws_region=doors.AWS_REGION,
            base_url=double.url,
            max_retries=0,
        ) as bedrock,
        anthropic.AsyncAnthropicVertex(
            access_token=STATIC_TOKEN,
            project_id=doors.GOOGLE_PROJECT,
            region=doors.GOOGLE_REGION,
            base_url=f"{double.url}/v1",
            max_retries=0,
        ) as vertex,
    ):
        yield {AZURE: azure.chat.completions, BEDROCK: bedrock.messages, VERTEX: vertex.messages}


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("model", MODELS)
async def test_what_goes_out_is_what_the_sdk_sends(
    router: Any,
    double: ProviderDouble,
    sdks: dict[str, Any],
    call: Call,
    model: str,
    is_streamed: bool,
) -> None:
    dialect = "openai" if model == AZURE else "anthropic"
    for path in (path for path in GOLDEN if path.stem.startswith(dialect)):
        double.reset()
        prompt = golden_prompt(path, model)
        with contextlib.suppress(QuartetError):
            if is_streamed:
                await stream(router, prompt, call)
            else:
                await router.generate(pb.GenerateRequest(prompt=prompt), call)
        (ours,) = double.requests
        body = {**ours.body, "model": ours.model, "stream": is_streamed}
        beta = body.pop("anthropic_beta", None)
        options = {"extra_headers": {"anthropic-beta": ",".join(beta)}} if beta else {}
        if ours.body.get("anthropic_version") == "2026-10-21":
            body.pop("anthropic_version")
        if not is_streamed:
            del body["stream"]
        with contextlib.suppress(openai.APIStatusError, anthropic.APIStatusError):
            answer = await send(sdks[model].create, body, **options)
            if is_streamed:
                await answer.close()
        _, theirs = double.requests
        assert ours.endpoint == theirs.endpoint, path.stem
        assert ours.body == theirs.body, path.stem
