"""What the clouds are shown: keys from variables, files and the machine; and what comes of wrong ones."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.errors import FailedPrecondition, QuartetError
from services.kit.settings import SettingsError
from tests.contract.router.clouds import AZURE, BEDROCK, VERTEX, open_router
from tests.contract.router.conftest import Ask
from tests.doubles.provider import ProviderDouble
from tests.doubles.provider import clouds as doors

NOBODY = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": ""}
AWS_FILE = f"""
[default]
aws_access_key_id = {doors.AWS_ACCESS_KEY}
aws_secret_access_key = {doors.AWS_SECRET_KEY}
"""


async def generate(router: Any, prompt: pb.Prompt) -> pb.GenerateResponse:
    call = Call.root(timeout_s=20, tenant="acme")
    response: pb.GenerateResponse = await router.generate(pb.GenerateRequest(prompt=prompt), call)
    return response


@pytest.mark.parametrize(
    ("model", "secrets"),
    [
        (AZURE, {"AZURE_OPENAI_API_KEY": "wrong"}),
        (BEDROCK, {"AWS_SECRET_ACCESS_KEY": "wrong"}),
        (BEDROCK, {"AWS_SESSION_TOKEN": "wrong"}),
    ],
    ids=["azure", "bedrock", "bedrock's token"],
)
async def test_a_wrong_key_is_refused_as_the_key_of_that_server(
    double: ProviderDouble, ask: Ask, tmp_path: Path, model: str, secrets: dict[str, str]
) -> None:
    async with open_router(tmp_path, double, secrets=secrets) as router:
        with pytest.raises(FailedPrecondition, match="check the provider's key") as caught:
            await generate(router, ask("Hi", model=model))
    assert caught.value.reason == "PROVIDER_KEY_REFUSED"
    assert "wrong" not in str(caught.value)


async def test_a_session_token_is_signed_and_keys_do_without_one(
    double: ProviderDouble, ask: Ask, tmp_path: Path
) -> None:
    async with open_router(tmp_path, double) as router:
        await generate(router, ask("Hi", model=BEDROCK))
    async with open_router(tmp_path, double, secrets={"AWS_SESSION_TOKEN": ""}) as router:
        await generate(router, ask("Hi", model=BEDROCK))
    tokens = [request.headers.get("x-amz-security-token") for request in double.requests]
    assert tokens == [doors.AWS_SESSION_TOKEN, None]


async def test_a_bedrock_api_key_is_sent_in_place_of_a_signature(
    double: ProviderDouble, ask: Ask, tmp_path: Path
) -> None:
    secrets = {"BEDROCK_KEY": doors.BEDROCK_API_KEY}
    line = "api_key_variable: BEDROCK_KEY"
    async with open_router(tmp_path, double, bedrock=line, secrets=secrets) as router:
        await generate(router, ask("Hi", model=BEDROCK))
    assert double.requests[0].headers["authorization"] == f"Bearer {doors.BEDROCK_API_KEY}"


async def test_keys_that_sign_are_not_displaced_by_an_api_key_of_the_environment(
    double: ProviderDouble, ask: Ask, tmp_path: Path
) -> None:
    async with open_router(tmp_path, double, secrets={"AWS_BEARER_TOKEN_BEDROCK": "another's"}) as router:
        await generate(router, ask("Hi", model=BEDROCK))


async def test_a_workload_signs_with_what_aws_s_own_chain_finds(
    double: ProviderDouble, ask: Ask, tmp_path: Path
) -> None:
    credentials = tmp_path / "aws"
    credentials.write_text(AWS_FILE, encoding="utf-8")
    secrets = {**NOBODY, "AWS_SHARED_CREDENTIALS_FILE": str(credentials), "AWS_EC2_METADATA_DISABLED": "true"}
    line = "workload_identity: true"
    # AWS's chain takes an empty variable for a key that is there.
    with pytest.MonkeyPatch.context() as patch:
        async with open_router(tmp_path, double, bedrock=line, secrets=secrets) as router:
            for name in NOBODY:
                patch.delenv(name)
            await generate(router, ask("Hi", model=BEDROCK))
            credentials.write_text("", encoding="utf-8")
            await generate(router, ask("Hi", model=BEDROCK))
    assert double.calls() == 2


async def test_a_workload_without_keys_is_told_so(double: ProviderDouble, ask: Ask, tmp_path: Path) -> None:
    secrets = {
        **NOBODY,
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "absent"),
        "AWS_CONFIG_FILE": str(tmp_path / "absent"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        line = "workload_identity: true"
        async with open_router(tmp_path, double, bedrock=line, secrets=secrets) as router:
            for name in NOBODY:
                patch.delenv(name)
            with pytest.raises(FailedPrecondition, match="AWS's own chain finds no keys"):
                await generate(router, ask("Hi", model=BEDROCK))
    assert double.calls() == 0


async def test_google_gives_one_token_to_all_who_wait_and_another_when_it_has_ended(
    double: ProviderDouble, ask: Ask, tmp_path: Path
) -> None:
    given = double.clouds.tokens_given
    async with open_router(tmp_path, double) as router:
        prompts = [ask(f"Hi {number}", model=VERTEX) for number in range(5)]
        first = asyncio.create_task(generate(router, prompts[0]))
        await asyncio.sleep(0)
        others = [asyncio.create_task(generate(router, prompt)) for prompt in prompts[1:]]
        first.cancel()
        answers = await asyncio.gather(*others)
    assert all(answer.completion.model == VERTEX for answer in answers)
    assert double.clouds.tokens_given == given + 1


async def test_a_workload_has_the_account_of_google_s_application_default(
    double: ProviderDouble, ask: Ask, tmp_path: Path
) -> None:
    secrets = {"GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "account.json")}
    line = "workload_identity: true"
    async with open_router(tmp_path, double, vertex=line, secrets=secrets) as router:
        await generate(router, ask("Hi", model=VERTEX))


async def test_a_token_that_is_given_is_used_as_it_is(
    double: ProviderDouble, ask: Ask, tmp_path: Path
) -> None:
    double.clouds.accept_token("given")
    line = "access_token_variable: VERTEX_TOKEN"
    async with open_router(tmp_path, double, vertex=line, secrets={"VERTEX_TOKEN": "given"}) as router:
        await generate(router, ask("Hi", model=VERTEX))


async def test_an_account_that_google_refuses_is_a_refused_key(ask: Ask, tmp_path: Path) -> None:
    async with ProviderDouble() as one, ProviderDouble() as other:
        # Signed by an account of the other's.
        account = other.clouds.service_account(one.url)
        secrets = {"GOOGLE_CREDENTIALS": account}
        async with open_router(tmp_path, one, secrets=secrets) as router:
            with pytest.raises(FailedPrecondition, match="no access token") as caught:
                await generate(router, ask("Hi", model=VERTEX))
    assert caught.value.reason == "PROVIDER_KEY_REFUSED"


async def test_what_is_no_account_is_refused_at_the_start(double: ProviderDouble, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="GOOGLE_CREDENTIALS holds no key of a service account") as caught:
        async with open_router(tmp_path, double, secrets={"GOOGLE_CREDENTIALS": '{"private_key": "s3cret"}'}):
            pass
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "variable"),
    [(AZURE, "AZURE_OPENAI_API_KEY"), (BEDROCK, "AWS_SECRET_ACCESS_KEY"), (VERTEX, "GOOGLE_CREDENTIALS")],
)
async def test_a_server_without_its_key_is_there_and_says_what_is_missing(
    double: ProviderDouble, ask: Ask, tmp_path: Path, model: str, variable: str
) -> None:
    secrets = {variable: "", f"{variable}_FILE": ""}
    async with open_router(tmp_path, double, secrets=secrets) as router:
        with pytest.raises(QuartetError, match=f"none of {variable} is set"):
            await generate(router, ask("Hi", model=model))


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
    ("package", "kind"), [("openai", "azure"), ("boto3", "bedrock"), ("google.auth", "vertex")]
)
@pytest.mark.usefixtures("forgotten")
async def test_an_sdk_that_is_not_installed_is_named_with_the_remedy(
    double: ProviderDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, kind: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SettingsError, match=rf"pip install 'quartet\[{kind}\]'"):
        async with open_router(tmp_path, double):
            pass


async def test_no_sdk_is_imported_where_no_cloud_is_configured() -> None:
    code = (
        "import sys; import services.router.wiring, services.router.__main__;"
        "print([name for name in ('openai', 'anthropic', 'boto3', 'google.auth', 'httpx2')"
        " if name in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert (process.returncode, out.decode().strip()) == (0, "[]")
