"""Azure by tokens of Microsoft Entra: a managed identity's, or for a pod's federated token."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from services.kit.errors import DeadlineExceeded, FailedPrecondition, Unavailable
from services.router.adapters.provider import WireProvider
from tests.contract.router.test_clouds_credentials import azure, generate, provider_of
from tests.doubles.provider import ProviderDouble, entra
from tests.doubles.provider.entra import Entra
from tests.unit.router.http_peer import Peer


@pytest.fixture
def office(double: ProviderDouble) -> Iterator[Entra]:
    """What gives tokens out at the double, with the tokens' time to be set."""
    office = double.clouds.entra
    kept = office.token_s
    yield office
    office.token_s = kept


@asynccontextmanager
async def workload(
    double: ProviderDouble, variables: dict[str, str] | None = None, **settings: Any
) -> AsyncIterator[WireProvider]:
    """Azure behind the double, for an app whose managed identity is there, too, unless told otherwise."""
    if variables is None:
        variables = double.clouds.entra.environment(double.url)
    server = azure(double.url, workload_identity=True, **settings)
    async with provider_of(server, {"AZURE_TOKEN_CREDENTIALS": "prod", **variables}) as provider:
        yield provider


async def test_a_managed_identity_s_token_takes_the_key_s_place(double: ProviderDouble) -> None:
    async with workload(double) as provider:
        await generate(provider)
    (request,) = double.requests
    assert request.headers["authorization"].removeprefix("Bearer ") in double.clouds.entra.tokens
    assert "api-key" not in request.headers


async def test_a_key_and_a_token_of_the_environment_are_not_used_beside_it(double: ProviderDouble) -> None:
    others = {"AZURE_OPENAI_API_KEY": "another's", "AZURE_OPENAI_AD_TOKEN": "another's"}
    async with workload(double, double.clouds.entra.environment(double.url) | others) as provider:
        await generate(provider)
    assert "another's" not in str(double.requests[0].headers)


async def test_one_token_serves_all_who_wait_and_those_after_them(double: ProviderDouble) -> None:
    given = double.clouds.entra.tokens_given
    async with workload(double) as provider:
        first = asyncio.create_task(generate(provider))
        await asyncio.sleep(0)
        others = [asyncio.create_task(generate(provider)) for _ in range(4)]
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(*others)
        await generate(provider)
    assert double.clouds.entra.tokens_given == given + 1
    assert first.cancelled()


async def test_another_token_is_asked_for_some_minutes_before_one_ends(
    double: ProviderDouble, office: Entra
) -> None:
    given, office.token_s = office.tokens_given, 60
    async with workload(double) as provider:
        await generate(provider)
        office.token_s = 3599
        await generate(provider)
        await generate(provider)
    assert office.tokens_given == given + 2


async def test_a_pod_s_federated_token_is_exchanged_over_tls(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    caplog.set_level(logging.DEBUG)
    async with ProviderDouble(tls=context) as secure:
        token = secure.clouds.entra.federated_token()
        (tmp_path / "token").write_text(token, encoding="ascii")
        variables = {
            "AZURE_AUTHORITY_HOST": secure.url,
            "AZURE_TENANT_ID": entra.TENANT,
            "AZURE_CLIENT_ID": entra.CLIENT,
            "AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "token"),
            "REQUESTS_CA_BUNDLE": str(tmp_path / "ca.pem"),
            "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
        }
        async with workload(secure, variables) as provider:
            await generate(provider)
        (given,) = secure.clouds.entra.tokens
    assert caplog.text
    assert given not in caplog.text
    assert token not in caplog.text


async def test_an_identity_that_is_refused_is_a_refused_key(double: ProviderDouble) -> None:
    variables = double.clouds.entra.environment(double.url) | {"IDENTITY_HEADER": "s3cret"}
    async with workload(double, variables) as provider:
        with pytest.raises(FailedPrecondition, match="no identity that gets an access token") as caught:
            await generate(provider)
    assert caught.value.reason == "PROVIDER_KEY_REFUSED"
    assert "s3cret" not in str(caught.value)
    assert double.calls() == 0


async def test_a_token_that_the_resource_does_not_take_is_a_refused_key(double: ProviderDouble) -> None:
    async with ProviderDouble() as other, workload(double, other.clouds.entra.environment(other.url)) as app:
        with pytest.raises(FailedPrecondition, match="check the provider's key") as caught:
            await generate(app)
    assert caught.value.reason == "PROVIDER_KEY_REFUSED"


async def test_a_token_is_for_the_scope_that_is_configured(double: ProviderDouble) -> None:
    async with workload(double, token_scope="https://cognitiveservices.azure.us/.default") as provider:
        with pytest.raises(FailedPrecondition):
            await generate(provider)


async def test_an_identity_that_is_away_later_is_an_unreachable_provider(
    double: ProviderDouble, office: Entra
) -> None:
    office.token_s = 60
    async with AsyncExitStack() as stack:
        async with ProviderDouble() as elsewhere:
            elsewhere.clouds.entra = office
            variables = office.environment(elsewhere.url)
            provider = await stack.enter_async_context(workload(double, variables))
            await generate(provider)
        with pytest.raises(Unavailable, match="no access token of Microsoft Entra") as caught:
            await generate(provider)
    assert caught.value.reason == "PROVIDER_UNAVAILABLE"


async def test_a_call_waits_for_a_token_no_longer_than_it_may(double: ProviderDouble) -> None:
    async def say_nothing(*_: Any) -> None:
        await silent.lost.wait()

    async with Peer(say_nothing) as silent:
        async with workload(double, double.clouds.entra.environment(silent.url)) as provider:
            with pytest.raises(DeadlineExceeded):
                await generate(provider, timeout_s=0.3)
        silent.lost.set()
    assert double.calls() == 0
