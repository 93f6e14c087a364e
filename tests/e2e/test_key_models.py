"""Keys that are held to models, as stock clients see it behind the edge."""

from collections.abc import AsyncIterator

import aiohttp
import anthropic
import openai
import pytest
import pytest_asyncio
from openai.types.chat import ChatCompletionMessageParam

from services.kit import names
from tests.doubles.provider import ProviderDouble
from tests.e2e.suite import Suite

LUNA, HAIKU = "gpt-6-luna", "claude-haiku-5-5"
"""The candidates of the route `simple_faq`, in their order."""
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]
PRETENCES = [{}, {names.MODELS: LUNA}, {names.MODELS: ""}]
"""What a client says its key's models were."""


@pytest_asyncio.fixture(scope="module")
async def narrow_key(configured_suite: Suite) -> str:
    """The secret of a key that may use Haiku alone."""
    headers = {"authorization": f"Bearer {configured_suite.api_key}"}
    async with (
        aiohttp.ClientSession(configured_suite.url, headers=headers) as api,
        api.post("/api/v1/keys", json={"name": "haiku", "scopes": [f"model:{HAIKU}"]}) as response,
    ):
        return str((await response.json())["secret"])


@pytest_asyncio.fixture
async def narrow(openai_client: openai.AsyncOpenAI, narrow_key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai_client.with_options(api_key=narrow_key) as client:
        yield client


@pytest.mark.parametrize("pretence", PRETENCES, ids=str)
@pytest.mark.parametrize("name", ["auto", "route/simple_faq"])
async def test_auto_and_routes_stay_with_the_model_of_the_key(
    narrow: openai.AsyncOpenAI, provider: ProviderDouble, name: str, pretence: dict[str, str]
) -> None:
    whole = await narrow.chat.completions.with_raw_response.create(
        model=name, messages=HELLO, extra_headers=pretence
    )
    assert (whole.headers["x-quartet-route"], whole.headers["x-quartet-model"]) == ("simple_faq", HAIKU)
    streamed = await narrow.chat.completions.create(
        model=name, messages=HELLO, stream=True, extra_headers=pretence
    )
    assert {chunk.model async for chunk in streamed} == {HAIKU}
    assert {request.body["model"] for request in provider.requests} == {HAIKU}


@pytest.mark.parametrize("pretence", PRETENCES, ids=str)
async def test_another_model_is_refused(
    narrow: openai.AsyncOpenAI,
    anthropic_client: anthropic.AsyncAnthropic,
    provider: ProviderDouble,
    pretence: dict[str, str],
) -> None:
    with pytest.raises(openai.PermissionDeniedError, match=f"may not use the model {LUNA!r}") as refused:
        await narrow.chat.completions.create(model=LUNA, messages=HELLO, extra_headers=pretence)
    assert refused.value.code == "scope_missing"
    claude = anthropic_client.with_options(api_key=narrow.api_key)
    with pytest.raises(anthropic.PermissionDeniedError, match=f"may not use the model {LUNA!r}"):
        await claude.messages.create(
            model=LUNA, max_tokens=9, messages=[{"role": "user", "content": "Hi"}], extra_headers=pretence
        )
    assert provider.calls() == 0


@pytest.mark.parametrize("pretence", PRETENCES, ids=str)
async def test_a_route_without_the_model_of_the_key_is_refused_with_those_it_has(
    narrow: openai.AsyncOpenAI, provider: ProviderDouble, pretence: dict[str, str]
) -> None:
    with pytest.raises(
        openai.PermissionDeniedError, match=f"none of the models of the route 'code_gen'.*{HAIKU}"
    ):
        await narrow.chat.completions.create(model="route/code_gen", messages=HELLO, extra_headers=pretence)
    assert provider.calls() == 0


async def test_a_key_of_all_models_is_not_narrowed_by_what_a_client_says(
    openai_client: openai.AsyncOpenAI, provider: ProviderDouble
) -> None:
    for name in ("auto", LUNA):
        answer = await openai_client.chat.completions.create(
            model=name, messages=HELLO, extra_headers={names.MODELS: HAIKU}
        )
        assert answer.model == LUNA
    assert {request.body["model"] for request in provider.requests} == {LUNA}


async def test_the_native_api_tells_the_scope_and_drops_what_a_client_says(
    configured_suite: Suite, narrow_key: str
) -> None:
    headers = {"authorization": f"Bearer {narrow_key}", names.MODELS: LUNA}
    message = {"role": "ROLE_USER", "parts": [{"text": "Hello"}]}
    async with aiohttp.ClientSession(configured_suite.url, headers=headers) as api:
        told = []
        for name in ("auto", LUNA, "route/code_gen"):
            body = {"generation": {"target": {"name": name}, "messages": [message]}}
            async with api.post("/api/v1/generate", json=body) as response:
                told.append((response.status, await response.json()))
    (first, answer), (second, named), (third, routed) = told
    assert (first, answer["decision"]["model"]) == (200, HAIKU)
    scopes = [
        [detail["metadata"]["scope"] for detail in error["details"] if "metadata" in detail]
        for error in (named, routed)
    ]
    assert (second, third) == (403, 403)
    assert scopes == [
        [f"model:{LUNA}"],
        ["model:gpt-6.1-terra, model:claude-sonnet-5-5, model:local/extractive"],
    ]
