"""What the clouds are shown: keys from variables, files and the machine; and what comes of wrong ones."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from quartet.common.v1 import message_pb2 as message
from quartet.common.v1.generation_pb2 import Completion, GenerationSpec
from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.errors import DeadlineExceeded, FailedPrecondition, QuartetError, Unavailable
from services.kit.settings import SettingsError
from services.router.adapters.anthropic.provider import AnthropicProvider
from services.router.adapters.config.servers import AzureServer, BedrockServer, CloudServer, VertexServer
from services.router.adapters.http.dialing import Egress
from services.router.adapters.openai.provider import OpenAIProvider
from services.router.adapters.provider import WireProvider
from services.router.adapters.transport import Patience, Transport
from services.router.domain.adaptation import ModelRequest
from services.router.domain.catalogue import Dialect, Model
from services.router.domain.ledger import Purpose
from services.router.domain.prices import Prices
from services.router.wiring_clouds import missing_secrets, open_cloud
from tests.contract.router.clouds import AZURE, BEDROCK, VERTEX, open_router
from tests.contract.router.conftest import Ask
from tests.doubles.provider import ProviderDouble
from tests.doubles.provider import clouds as doors
from tests.unit.router.http_peer import Peer

AWS_KEYS = {"AWS_ACCESS_KEY_ID": doors.AWS_ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": doors.AWS_SECRET_KEY}
AWS_FILE = f"""
[default]
aws_access_key_id = {doors.AWS_ACCESS_KEY}
aws_secret_access_key = {doors.AWS_SECRET_KEY}
"""
_REFUSAL = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
NO_ROLE = b"HTTP/1.1 403 Forbidden\r\ncontent-type: text/xml\r\ncontent-length: %d\r\n\r\n%b" % (
    len(_REFUSAL),
    _REFUSAL,
)
ALONE = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nowhere"}
"""No keys from elsewhere."""


def azure(url: str, **settings: Any) -> AzureServer:
    server = {"name": "azure", "kind": "azure", "base_url": url, "api_version": doors.AZURE_VERSION}
    return AzureServer.model_validate(server | settings)


def bedrock(url: str, **settings: Any) -> BedrockServer:
    server = {"name": "bedrock", "kind": "bedrock", "base_url": url, "region": doors.AWS_REGION}
    return BedrockServer.model_validate(server | settings)


def vertex(url: str, **settings: Any) -> VertexServer:
    server = {"name": "vertex", "kind": "vertex", "base_url": f"{url}/v1", "region": doors.GOOGLE_REGION}
    return VertexServer.model_validate({**server, "project": doors.GOOGLE_PROJECT, **settings})


@asynccontextmanager
async def provider_of(server: CloudServer, secrets: dict[str, str]) -> AsyncIterator[WireProvider]:
    """The server's provider, with these variables set."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in secrets.items():
            patch.setenv(name, value)
        assert missing_secrets(server) == ()
        client = await asyncio.to_thread(open_cloud, server, Egress(), 5.0)
        transport = Transport(client, Patience(), provider=server.name, framing=client.framing)
        make = OpenAIProvider if isinstance(server, AzureServer) else AnthropicProvider
        try:
            yield make(transport)
        finally:
            await transport.close()


async def generate(provider: WireProvider, *, timeout_s: float = 20.0) -> Completion:
    model = Model(
        id="model",
        provider=provider.name,
        dialect=Dialect.OPENAI if isinstance(provider, OpenAIProvider) else Dialect.ANTHROPIC,
        upstream="model",
        prices=Prices({}),
        context_window=1000,
        max_output_tokens=100,
        capabilities=frozenset(),
    )
    request = ModelRequest(
        model=model,
        messages=[message.Message(role=message.ROLE_USER, parts=[message.Part(text="Hi")])],
        spec=GenerationSpec(max_output_tokens=100),
        adapted=(),
        keeps_thinking=True,
        purpose=Purpose(),
    )
    return await provider.generate(request, Call.root(timeout_s=timeout_s))


@pytest.mark.parametrize(
    ("make", "secrets"),
    [
        (azure, {"AZURE_OPENAI_API_KEY": "wrong"}),
        (bedrock, AWS_KEYS | {"AWS_SECRET_ACCESS_KEY": "wrong"}),
        (bedrock, AWS_KEYS | {"AWS_SESSION_TOKEN": "wrong"}),
    ],
    ids=["azure", "bedrock", "bedrock's token"],
)
async def test_a_wrong_key_is_refused_as_the_key_of_that_server(
    double: ProviderDouble, make: Any, secrets: dict[str, str]
) -> None:
    async with provider_of(make(double.url), secrets) as provider:
        with pytest.raises(FailedPrecondition, match="check the provider's key") as caught:
            await generate(provider)
    assert caught.value.reason == "PROVIDER_KEY_REFUSED"
    assert "wrong" not in str(caught.value)


async def test_a_key_may_be_a_file(double: ProviderDouble, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{doors.AZURE_KEY}\n", encoding="utf-8")
    server = azure(double.url, api_key_variable="EAST_KEY")
    async with provider_of(server, {"EAST_KEY_FILE": str(path)}) as provider:
        await generate(provider)


async def test_a_session_token_is_signed_and_keys_do_without_one(double: ProviderDouble) -> None:
    for token in (doors.AWS_SESSION_TOKEN, ""):
        async with provider_of(bedrock(double.url), AWS_KEYS | {"AWS_SESSION_TOKEN": token}) as provider:
            await generate(provider)
    tokens = [request.headers.get("x-amz-security-token") for request in double.requests]
    assert tokens == [doors.AWS_SESSION_TOKEN, None]


async def test_a_bedrock_api_key_is_sent_in_place_of_a_signature(double: ProviderDouble) -> None:
    server = bedrock(double.url, api_key_variable="BEDROCK_KEY")
    async with provider_of(server, {"BEDROCK_KEY": doors.BEDROCK_API_KEY}) as provider:
        await generate(provider)
    assert double.requests[0].headers["authorization"] == f"Bearer {doors.BEDROCK_API_KEY}"


async def test_keys_that_sign_are_not_displaced_by_an_api_key_of_the_environment(
    double: ProviderDouble,
) -> None:
    secrets = AWS_KEYS | {"AWS_BEARER_TOKEN_BEDROCK": "another's"}
    async with provider_of(bedrock(double.url), secrets) as provider:
        await generate(provider)


async def test_a_workload_signs_with_what_aws_s_own_chain_finds(
    double: ProviderDouble, tmp_path: Path
) -> None:
    credentials = tmp_path / "aws"
    credentials.write_text(AWS_FILE, encoding="utf-8")
    secrets = ALONE | {"AWS_SHARED_CREDENTIALS_FILE": str(credentials)}
    async with provider_of(bedrock(double.url, workload_identity=True), secrets) as provider:
        await generate(provider)
        credentials.unlink()
        await generate(provider)
    assert double.calls() == 2


async def test_a_workload_without_keys_is_told_so(double: ProviderDouble) -> None:
    secrets = ALONE | {"AWS_SHARED_CREDENTIALS_FILE": "/nowhere"}
    async with provider_of(bedrock(double.url, workload_identity=True), secrets) as provider:
        with pytest.raises(FailedPrecondition, match="AWS's own chain finds no keys"):
            await generate(provider)
    assert double.calls() == 0


async def test_a_workload_whose_role_is_refused_is_told_so(double: ProviderDouble, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a.b.c", encoding="utf-8")
    async with Peer(NO_ROLE) as sts:
        secrets = ALONE | {
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/quartet",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
            "AWS_ENDPOINT_URL_STS": sts.url,
            "AWS_SHARED_CREDENTIALS_FILE": "/nowhere",
        }
        async with provider_of(bedrock(double.url, workload_identity=True), secrets) as provider:
            with pytest.raises(FailedPrecondition, match="AccessDenied"):
                await generate(provider)
    assert double.calls() == 0


async def test_google_gives_one_token_to_all_who_wait(double: ProviderDouble) -> None:
    given = double.clouds.tokens_given
    secrets = {"GOOGLE_CREDENTIALS": double.clouds.service_account(double.url)}
    async with provider_of(vertex(double.url), secrets) as provider:
        first = asyncio.create_task(generate(provider))
        await asyncio.sleep(0)
        others = [asyncio.create_task(generate(provider)) for _ in range(4)]
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(*others)
        await generate(provider)
    assert double.clouds.tokens_given == given + 1
    assert first.cancelled()


async def test_google_gives_another_token_some_minutes_before_one_ends(double: ProviderDouble) -> None:
    given, double.clouds.token_s = double.clouds.tokens_given, 60
    secrets = {"GOOGLE_CREDENTIALS": double.clouds.service_account(double.url)}
    async with provider_of(vertex(double.url), secrets) as provider:
        await generate(provider)
        double.clouds.token_s = 3599
        await generate(provider)
        await generate(provider)
    assert double.clouds.tokens_given == given + 2


async def test_a_call_waits_for_a_token_no_longer_than_it_may(double: ProviderDouble) -> None:
    async def say_nothing(*_: Any) -> None:
        await silent.lost.wait()

    async with Peer(say_nothing) as silent:
        secrets = {"GOOGLE_CREDENTIALS": double.clouds.service_account(silent.url)}
        async with provider_of(vertex(double.url), secrets) as provider:
            with pytest.raises(DeadlineExceeded):
                await generate(provider, timeout_s=0.3)
        silent.lost.set()
    assert double.calls() == 0


async def test_a_workload_has_the_account_of_google_s_application_default(
    double: ProviderDouble, tmp_path: Path
) -> None:
    account = tmp_path / "account.json"
    account.write_text(double.clouds.service_account(double.url), encoding="utf-8")
    secrets = {"GOOGLE_APPLICATION_CREDENTIALS": str(account)}
    async with provider_of(vertex(double.url, workload_identity=True), secrets) as provider:
        await generate(provider)


async def test_a_token_that_is_given_is_used_as_it_is(double: ProviderDouble) -> None:
    double.clouds.accept_token("given")
    server = vertex(double.url, access_token_variable="VERTEX_TOKEN")
    async with provider_of(server, {"VERTEX_TOKEN": "given"}) as provider:
        await generate(provider)


async def test_an_account_that_google_refuses_is_a_refused_key(double: ProviderDouble) -> None:
    async with ProviderDouble() as other:
        # Signed by an account of the other's.
        secrets = {"GOOGLE_CREDENTIALS": other.clouds.service_account(double.url)}
        async with provider_of(vertex(double.url), secrets) as provider:
            with pytest.raises(FailedPrecondition, match="no access token") as caught:
                await generate(provider)
    assert caught.value.reason == "PROVIDER_KEY_REFUSED"


async def test_google_that_cannot_be_reached_is_an_unreachable_provider(double: ProviderDouble) -> None:
    async with ProviderDouble() as gone:
        secrets = {"GOOGLE_CREDENTIALS": double.clouds.service_account(gone.url)}
    async with provider_of(vertex(double.url), secrets) as provider:
        with pytest.raises(Unavailable, match="no access token") as caught:
            await generate(provider)
    assert caught.value.reason == "PROVIDER_UNAVAILABLE"


async def test_what_is_no_account_is_refused_at_the_start(double: ProviderDouble) -> None:
    secrets = {"GOOGLE_CREDENTIALS": '{"private_key": "s3cret"}'}
    with pytest.raises(SettingsError, match="GOOGLE_CREDENTIALS holds no key of a service account") as caught:
        async with provider_of(vertex(double.url), secrets):
            pass
    assert "s3cret" not in str(caught.value)


async def test_a_server_without_its_key_is_there_and_says_what_is_missing(
    double: ProviderDouble, ask: Ask, tmp_path: Path
) -> None:
    variables = {
        AZURE: "AZURE_OPENAI_API_KEY",
        BEDROCK: "AWS_SECRET_ACCESS_KEY",
        VERTEX: "GOOGLE_CREDENTIALS",
    }
    secrets = {name: "" for variable in variables.values() for name in (variable, f"{variable}_FILE")}
    async with open_router(tmp_path, double, secrets=secrets) as router:
        for model, variable in variables.items():
            request = pb.GenerateRequest(prompt=ask("Hi", model=model))
            with pytest.raises(QuartetError, match=f"none of {variable} is set"):
                await router.generate(request, Call.root(timeout_s=20, tenant="acme"))


@pytest.fixture
def forgotten() -> Iterator[None]:
    """The adapters are imported anew, as at a start."""
    prefix = "services.router.adapters.sdk."
    kept = {name: module for name, module in sys.modules.items() if name.startswith(prefix)}
    for name in kept:
        del sys.modules[name]
    yield
    sys.modules.update(kept)


@pytest.mark.parametrize(
    ("package", "make"),
    [
        ("openai", azure),
        ("azure.identity", partial(azure, workload_identity=True)),
        ("boto3", bedrock),
        ("google.auth", vertex),
    ],
)
@pytest.mark.usefixtures("forgotten")
def test_an_sdk_that_is_not_installed_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, package: str, make: Any
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    server = make("http://localhost:1")
    with pytest.raises(SettingsError, match=rf"pip install 'quartet\[{server.kind}\]'"):
        open_cloud(server, Egress(), 5.0)


async def test_no_sdk_is_imported_where_no_cloud_is_configured() -> None:
    code = (
        "import sys; import services.router.wiring, services.router.__main__;"
        "print([name for name in ('openai', 'azure.identity', 'anthropic', 'boto3', 'google.auth', 'httpx2')"
        " if name in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert (process.returncode, out.decode().strip()) == (0, "[]")
