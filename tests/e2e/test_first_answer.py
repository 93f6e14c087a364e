"""What a newcomer does first, without any provider key."""

import json
from collections.abc import AsyncIterator

import pytest_asyncio
from openai import AsyncOpenAI

from quartet.gateway.v1 import document_pb2
from services.kit.call import Call
from services.kit.client import Channel, remote
from tests.e2e.suite import Suite

QUESTION = "What happens to a step that was under way when the process died?"
ANSWER = "runs again"


@pytest_asyncio.fixture
async def openai(suite: Suite) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{suite.url}/v1", api_key=suite.api_key, max_retries=0) as client:
        yield client


async def ask(suite: Suite, *arguments: str) -> dict[str, object]:
    answer: dict[str, object] = json.loads(await suite.quartet("ask", "--json", *arguments))
    return answer


async def test_the_answer_quotes_the_documents_and_every_quote_is_where_it_says(suite: Suite) -> None:
    answer = await suite.quartet("ask", QUESTION)
    assert ANSWER in answer
    channel = Channel(suite.url.removeprefix("http://"))
    documents = remote("quartet.gateway.v1.DocumentService", channel)
    call = Call.root(timeout_s=10, metadata={"authorization": f"Bearer {suite.api_key}"})
    citations = json.loads(await suite.quartet("ask", QUESTION, "--json"))["citations"]
    assert citations
    for citation in citations:
        request = document_pb2.GetDocumentRequest(document_id=citation["document_id"])
        document = (await documents.get_document(request, call.outgoing(metadata=call.metadata))).document
        span = document.text[citation["start_char"] : citation["end_char"]]
        assert span == citation["quote"]
    await channel.close()


async def test_the_stock_openai_client_gets_the_same_answer_with_annotations(
    suite: Suite, openai: AsyncOpenAI
) -> None:
    answer = await openai.chat.completions.create(
        model="rag/default", messages=[{"role": "user", "content": QUESTION}]
    )
    message = answer.choices[0].message
    assert message.content
    assert ANSWER in message.content
    assert message.annotations
    assert answer.usage
    assert answer.usage.completion_tokens > 0


async def test_the_stock_openai_client_gets_it_as_a_stream(openai: AsyncOpenAI) -> None:
    stream = await openai.chat.completions.create(
        model="rag/default",
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        stream_options={"include_usage": True},
    )
    text, finish, usage = "", None, None
    async for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
        usage = chunk.usage or usage
    assert ANSWER in text
    assert finish == "stop"
    assert usage is not None


async def test_plain_chat_without_a_provider_names_the_variables_to_set(
    suite: Suite, openai: AsyncOpenAI
) -> None:
    raised = None
    try:
        await openai.chat.completions.create(model="auto", messages=[{"role": "user", "content": "Hello!"}])
    except Exception as error:
        raised = error
    assert type(raised).__name__ == "BadRequestError"
    assert getattr(raised, "code", None) == "no_model_configured"
    assert "OPENAI_API_KEY" in str(raised)
    assert "ANTHROPIC_API_KEY" in str(raised)


async def test_what_the_documents_do_not_say_is_not_answered(suite: Suite) -> None:
    answer = json.loads(await suite.quartet("ask", "What is the capital of Mongolia?", "--json"))
    assert not answer["citations"]


async def test_explain_says_why_nothing_can_serve(suite: Suite) -> None:
    table = await suite.quartet("explain", "Refactor this function to be async")
    assert "code_gen" in table
    assert "none of OPENAI_API_KEY and OPENAI_BASE_URL is set" in table


async def test_status_names_the_suite_s_models_and_collections(suite: Suite) -> None:
    status = await suite.quartet("status")
    assert "default" in status
    assert "local/extractive" in status


async def test_the_documents_survive_when_they_are_ingested_again(suite: Suite) -> None:
    again = json.loads(await suite.quartet("ingest", "docs/errors.md", "--json"))
    assert again["unchanged"] == 1
