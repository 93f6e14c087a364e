"""The stock SDKs' own exceptions for every refusal, through the whole stack."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from tests.doubles.provider import Fault, ProviderDouble
from tests.e2e.suite import Suite

OPENAI_MODEL, ANTHROPIC_MODEL = "gpt-6-luna", "claude-haiku-5-5"
SICK_OPENAI = {
    429: ("gpt-6.1-terra", "gpt-6.1-sol", "gpt-6-astra"),
    500: ("gpt-5.4", "gpt-5.4-mini", "gpt-5.4-nano"),
    503: ("gpt-5", "gpt-5-mini", "gpt-5-nano"),
}
SICK_ANTHROPIC = {
    429: ("claude-sonnet-5-5", "claude-opus-5-5"),
    500: ("claude-opus-4-8", "claude-opus-4-7"),
    529: ("claude-sonnet-4-6", "claude-opus-4-6"),
}
"""Models that are not asked again: what fails, and what is limited, is left alone for a time."""
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hi"}]
HALLO: list[anthropic.types.MessageParam] = [{"role": "user", "content": "Hi"}]
Ask = Callable[..., Awaitable[Any]]


OPENAI_WAYS = ("chat", "responses", "stream")
ANTHROPIC_WAYS = ("unary", "stream")


@pytest.fixture(params=OPENAI_WAYS)
def ask_openai(request: pytest.FixtureRequest, openai_client: openai.AsyncOpenAI) -> Ask:
    """Asks a model by each of OpenAI's ways; a refusal comes before the first event of a stream."""

    async def ask(model: str = OPENAI_MODEL, *, client: openai.AsyncOpenAI = openai_client) -> Any:
        match request.param:
            case "chat":
                return await client.chat.completions.create(model=model, messages=HELLO)
            case "stream":
                return await client.chat.completions.create(model=model, messages=HELLO, stream=True)
            case _:
                return await client.responses.create(model=model, input="Hi")

    return ask


@pytest.fixture(params=ANTHROPIC_WAYS)
def ask_anthropic(request: pytest.FixtureRequest, anthropic_client: anthropic.AsyncAnthropic) -> Ask:
    async def ask(
        model: str = ANTHROPIC_MODEL, *, client: anthropic.AsyncAnthropic = anthropic_client
    ) -> Any:
        return await client.messages.create(
            model=model, max_tokens=9, messages=HALLO, stream=request.param == "stream"
        )

    return ask


async def refusal(provider: ProviderDouble, ask: Ask, model: str, fault: int, raised: type[Exception]) -> Any:
    """What the SDK makes of a vendor's refusal, which has the vendor's words."""
    refused = Fault(status=fault, message="Vendor's words", retry_after_s=30)
    provider.script(match=model, fault=refused, times=None)
    with pytest.raises(raised, match="Vendor's words") as caught:
        await ask(model)
    return caught.value


async def make_key(suite: Suite, *scopes: str) -> str:
    options = [word for scope in scopes for word in ("--scope", scope)]
    made = await suite.quartet("keys", "create", "narrow", *options, "--json")
    return str(json.loads(made)["secret"])


@pytest.mark.parametrize(
    ("fault", "raised", "status", "kind"),
    [
        (400, openai.BadRequestError, 400, "invalid_request_error"),
        (404, openai.NotFoundError, 404, "invalid_request_error"),
        (413, openai.APIStatusError, 413, "invalid_request_error"),
        (429, openai.RateLimitError, 429, "rate_limit_error"),
        (500, openai.InternalServerError, 503, "server_error"),
        (503, openai.InternalServerError, 503, "server_error"),
    ],
)
async def test_a_vendor_s_refusal_is_openai_s_exception(
    request: pytest.FixtureRequest,
    ask_openai: Ask,
    provider: ProviderDouble,
    fault: int,
    raised: type[openai.APIStatusError],
    status: int,
    kind: str,
) -> None:
    way = OPENAI_WAYS.index(request.node.callspec.params["ask_openai"])
    model = SICK_OPENAI[fault][way] if fault in SICK_OPENAI else OPENAI_MODEL
    error = await refusal(provider, ask_openai, model, fault, raised)
    assert (error.status_code, error.type) == (status, kind)
    assert error.code
    assert error.request_id == error.response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("fault", "raised", "status", "kind"),
    [
        (400, anthropic.BadRequestError, 400, "invalid_request_error"),
        (404, anthropic.NotFoundError, 404, "not_found_error"),
        (413, anthropic.RequestTooLargeError, 413, "request_too_large"),
        (429, anthropic.RateLimitError, 429, "rate_limit_error"),
        (500, anthropic.OverloadedError, 529, "overloaded_error"),
        (529, anthropic.OverloadedError, 529, "overloaded_error"),
    ],
)
async def test_a_vendor_s_refusal_is_anthropic_s_exception(
    request: pytest.FixtureRequest,
    ask_anthropic: Ask,
    provider: ProviderDouble,
    fault: int,
    raised: type[anthropic.APIStatusError],
    status: int,
    kind: str,
) -> None:
    way = ANTHROPIC_WAYS.index(request.node.callspec.params["ask_anthropic"])
    model = SICK_ANTHROPIC[fault][way] if fault in SICK_ANTHROPIC else ANTHROPIC_MODEL
    error = await refusal(provider, ask_anthropic, model, fault, raised)
    assert (error.status_code, error.body["error"]["type"]) == (status, kind)
    assert error.request_id == error.body["request_id"] != ""


async def test_keys_that_are_wrong_or_too_narrow(
    ask_openai: Ask, openai_client: openai.AsyncOpenAI, configured_suite: Suite
) -> None:
    with pytest.raises(openai.AuthenticationError) as unknown:
        await ask_openai(client=openai_client.with_options(api_key="qk_wrong"))
    assert unknown.value.code == "invalid_api_key"
    assert unknown.value.request_id
    key = await make_key(configured_suite, "model:another")
    with pytest.raises(openai.PermissionDeniedError, match="may not use the model") as narrow:
        await ask_openai(client=openai_client.with_options(api_key=key))
    assert narrow.value.code == "scope_missing"


async def test_keys_that_are_wrong_or_too_narrow_for_anthropic(
    ask_anthropic: Ask, anthropic_client: anthropic.AsyncAnthropic, configured_suite: Suite
) -> None:
    with pytest.raises(anthropic.AuthenticationError) as unknown:
        await ask_anthropic(client=anthropic_client.with_options(api_key="qk_wrong"))
    assert unknown.value.request_id
    key = await make_key(configured_suite, "model:another")
    with pytest.raises(anthropic.PermissionDeniedError, match="may not use the model"):
        await ask_anthropic(client=anthropic_client.with_options(api_key=key))


async def test_models_and_paths_that_are_not_there(
    ask_openai: Ask,
    openai_client: openai.AsyncOpenAI,
    anthropic_client: anthropic.AsyncAnthropic,
) -> None:
    with pytest.raises(openai.NotFoundError, match="no-such-model") as missing:
        await ask_openai("no-such-model")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as path:
        await openai_client.get("/nothing/here", cast_to=object)
    assert path.value.code == "unknown_path"
    with pytest.raises(openai.APIStatusError) as method:
        await openai_client.get("/chat/completions", cast_to=object)
    assert (method.value.status_code, method.value.code) == (405, "method_not_allowed")
    with pytest.raises(anthropic.NotFoundError):
        await anthropic_client.get("/v1/nothing", cast_to=object)
    with pytest.raises(anthropic.APIStatusError) as other:
        await anthropic_client.get("/v1/messages", cast_to=object)
    assert other.value.status_code == 405


async def test_a_body_beyond_the_edge_s_limit_is_too_large_to_both(
    openai_client: openai.AsyncOpenAI, anthropic_client: anthropic.AsyncAnthropic
) -> None:
    text = "x" * (33 << 20)
    with pytest.raises(openai.APIStatusError) as large:
        await openai_client.chat.completions.create(
            model=OPENAI_MODEL, messages=[{"role": "user", "content": text}]
        )
    assert (large.value.status_code, large.value.code) == (413, "request_too_large")
    with pytest.raises(anthropic.RequestTooLargeError):
        await anthropic_client.messages.create(
            model=ANTHROPIC_MODEL, max_tokens=9, messages=[{"role": "user", "content": text}]
        )


async def test_what_is_wrong_is_named_by_param(
    openai_client: openai.AsyncOpenAI, anthropic_client: anthropic.AsyncAnthropic
) -> None:
    with pytest.raises(openai.BadRequestError) as several:
        await openai_client.chat.completions.create(model=OPENAI_MODEL, messages=HELLO, n=2)
    assert several.value.param == "n"
    with pytest.raises(openai.BadRequestError) as tokens:
        await openai_client.embeddings.create(model="text-embedding-3-small", input=[1, 2, 3])
    assert tokens.value.param == "input"
    with pytest.raises(openai.BadRequestError) as vendor:
        await openai_client.chat.completions.create(model=OPENAI_MODEL, messages=HELLO, extra_body={"zz": 1})
    assert (vendor.value.param, vendor.value.code) == ("zz", "unknown_parameter")
    with pytest.raises(anthropic.BadRequestError, match="stop_sequences"):
        await anthropic_client.messages.create(
            model=ANTHROPIC_MODEL, max_tokens=9, messages=HALLO, stop_sequences=[""]
        )


@pytest.mark.parametrize("member", ["base_url", "api_base", "api_key", "endpoint"])
async def test_a_client_s_address_is_never_used(
    openai_client: openai.AsyncOpenAI, provider: ProviderDouble, member: str
) -> None:
    """The configured provider alone is asked; it refuses what it does not know, as the vendor does."""
    async with ProviderDouble() as foreign:
        with pytest.raises(openai.BadRequestError, match=member):
            await openai_client.chat.completions.create(
                model=OPENAI_MODEL,
                messages=HELLO,
                extra_body={member: foreign.openai_url},
                extra_headers={"x-base-url": foreign.openai_url, "x-quartet-provider": foreign.openai_url},
            )
        assert foreign.calls() == 0
        assert foreign.open_connections == 0
    assert provider.calls(model=OPENAI_MODEL) == 1
