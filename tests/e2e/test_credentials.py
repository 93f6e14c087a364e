"""Credentials and tenants through Envoy, with every service in a process of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from quartet.gateway.v1 import gateway_pb2, key_pb2, tenant_pb2
from services.gateway.domain.keys import key_id_of
from services.kit.call import Call
from services.kit.client import remote
from services.kit.errors import PermissionDenied, Unauthenticated
from services.kit.testing import OtlpReceiver
from tests.doubles.hostile_credentials import TEXTS, UNKNOWN_KEY, jwts, wrong_secret
from tests.doubles.issuer import AUDIENCE, ISSUER, Issuer
from tests.doubles.provider import ProviderDouble
from tests.e2e.stores import find_in_files, find_in_postgres, find_in_redis
from tests.e2e.suite import Suite, run_suite

CALLERS = 6
ROTATIONS = 6
ROTATION_S = 0.5
WORD = "quixotelium"
MODEL = "gpt-6-luna"


@pytest_asyncio.fixture(scope="module")
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer().serve() as issuer:
        yield issuer


@pytest_asyncio.fixture(scope="module")
async def guarded(provider: ProviderDouble, spans: OtlpReceiver, issuer: Issuer) -> AsyncIterator[Suite]:
    """A suite that accepts the issuer's tokens beside its keys, and logs all that it can."""
    async with run_suite(
        OTEL_EXPORTER_OTLP_ENDPOINT=spans.endpoint,
        QUARTET_LOG_LEVEL="DEBUG",
        OPENAI_API_KEY="sk-test",
        OPENAI_BASE_URL=provider.openai_url,
        GATEWAY_JWT_ISSUER=ISSUER,
        GATEWAY_JWT_AUDIENCE=AUDIENCE,
        GATEWAY_JWT_KEY_SET=issuer.url,
        GATEWAY_RESPONSE_LOG_TIMEOUT_S="2",  # a busy test machine is no store that is down
    ) as running:
        yield running


async def post(suite: Suite, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession(suite.url, headers=headers) as session,
        session.post(path, json=body) as response,
    ):
        return response.status, await response.json(content_type=None)


def chat(text: str) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 20, "messages": [{"role": "user", "content": text}]}


async def create_key(suite: Suite, *arguments: str) -> str:
    return (await suite.quartet("keys", "create", *arguments)).strip()


async def test_hostile_credentials_are_refused_at_every_door_in_its_own_shape(
    guarded: Suite, issuer: Issuer, provider: ProviderDouble
) -> None:
    good = issuer.token(tenant="default")
    assert (await post(guarded, "/v1/chat/completions", {"authorization": f"Bearer {good}"}, chat("x")))[
        0
    ] == 200
    provider.reset()
    known = key_id_of(guarded.api_key)
    hostile = {**TEXTS, **jwts(issuer), "unknown": UNKNOWN_KEY, "wrong secret": wrong_secret(known)}
    native = remote("quartet.gateway.v1.GatewayService", guarded.url.removeprefix("http://"))
    wrong: dict[str, object] = {}
    for name, text in hostile.items():
        status, body = await post(
            guarded, "/v1/chat/completions", {"authorization": f"Bearer {text}"}, chat("x")
        )
        if status != 401 or body["error"]["type"] != "invalid_request_error" or "code" not in body["error"]:
            wrong[f"openai, {name}"] = (status, body)
        status, body = await post(guarded, "/v1/messages", {"x-api-key": text}, chat("x"))
        if status != 401 or body["error"]["type"] != "authentication_error":
            wrong[f"anthropic, {name}"] = (status, body)
        call = Call.root(timeout_s=10, metadata={"authorization": f"Bearer {text}"})
        try:
            await native.list_models(gateway_pb2.ListModelsRequest(), call)
        except Unauthenticated:
            continue
        wrong[f"native, {name}"] = "let in"
    await native.close()
    assert wrong == {}
    assert len(hostile) > 80
    assert provider.requests == []


async def test_a_rotation_under_load_loses_no_call(guarded: Suite) -> None:
    secret = await create_key(guarded, "rotated", "--scope", "rpc:ListModels")
    current, done, refused = [secret], 0, []
    ended = asyncio.Event()

    async def keep_calling() -> None:
        nonlocal done
        async with aiohttp.ClientSession(guarded.url) as session:
            while not ended.is_set():
                headers = {"authorization": f"Bearer {current[0]}"}
                async with session.get("/v1/models", headers=headers) as response:
                    if response.status != 200:
                        refused.append(await response.text())
                    done += 1

    callers = [asyncio.create_task(keep_calling()) for _ in range(CALLERS)]
    for _ in range(ROTATIONS):
        await asyncio.sleep(ROTATION_S)
        rotated = await guarded.quartet("keys", "rotate", key_id_of(secret), "--overlap", "1h")
        current[0] = rotated.strip()
    await asyncio.sleep(ROTATION_S)
    ended.set()
    await asyncio.gather(*callers)
    assert refused == []
    assert done > 100
    status, _ = await post(guarded, "/v1/chat/completions", {"authorization": f"Bearer {secret}"}, chat("x"))
    assert status == 401


async def test_no_secret_is_in_stores_logs_or_traces(
    guarded: Suite, issuer: Issuer, spans: OtlpReceiver, provider: ProviderDouble
) -> None:
    provider.reset()
    secret = await create_key(guarded, "watched", "--scope", "*")
    token = issuer.token(tenant="default", sub="watched")
    for credential in (secret, token, guarded.api_key):
        for headers in ({"authorization": f"Bearer {credential}"}, {"x-api-key": credential}):
            for path in ("/v1/chat/completions", "/v1/messages"):
                keyed = headers | {"idempotency-key": f"{path} {credential[-8:]} {len(headers)}"}
                status, body = await post(guarded, path, keyed, chat("Say something"))
                assert status in (200, 409), body
            assert (await post(guarded, "/v1/nothing", headers, {}))[0] in (401, 404)
        broken = {"authorization": f"Bearer {credential[:-1]}"}
        assert (await post(guarded, "/v1/chat/completions", broken, chat("x")))[0] == 401
    seen = len(spans.spans)
    assert seen
    signature = token.rpartition(".")[2]
    for wanted in (secret.rpartition("_")[2], guarded.api_key.rpartition("_")[2], signature):
        part = wanted[:48]
        assert await find_in_postgres(guarded, part) == []
        assert await find_in_redis(guarded, part) == []
        # `quartet up` says its own key to whoever started it, and keeps it in a file.
        told = ["home/dev.key", "up.log"] if part in guarded.api_key else []
        assert find_in_files(guarded, part) == told
        assert not any(part in str(span) for span in spans.spans)
    # The search finds what is there.
    assert await find_in_postgres(guarded, key_id_of(secret)) != []


async def test_tenants_are_kept_by_grpc_and_by_command_alike(
    guarded: Suite, provider: ProviderDouble
) -> None:
    provider.reset()
    tenants = remote("quartet.gateway.v1.TenantService", guarded.url.removeprefix("http://"))

    def call(secret: str = guarded.api_key) -> Call:
        return Call.root(timeout_s=30, metadata={"authorization": f"Bearer {secret}"})

    async def listed() -> dict[str, tenant_pb2.Tenant]:
        response = await tenants.list_tenants(tenant_pb2.ListTenantsRequest(), call())
        return {tenant.id: tenant for tenant in response.tenants}

    await tenants.create_tenant(tenant_pb2.CreateTenantRequest(id="by-grpc", name="By gRPC"), call())
    await guarded.quartet("tenants", "create", "by-command", "--quota", "tokens_per_day=7")
    told = json.loads(await guarded.quartet("tenants", "list", "--json"))["tenants"]
    assert {one["id"]: one["name"] for one in told} == {
        name: tenant.name for name, tenant in (await listed()).items()
    }
    assert (await listed())["by-command"].limits == key_pb2.Limits(tokens_per_day=7)
    secret = await create_key(guarded, "first", "--scope", "keys", "--tenant", "by-grpc")
    headers = {"authorization": f"Bearer {secret}"}
    assert (await post(guarded, "/v1/chat/completions", headers, chat("x")))[0] == 200
    await guarded.quartet("tenants", "limits", "by-grpc", "--quota", "requests_per_minute=0")
    assert (await listed())["by-grpc"].limits == key_pb2.Limits(requests_per_minute=0)
    await asyncio.sleep(1)  # by then every replica knows
    status, answer = await post(guarded, "/v1/chat/completions", headers, chat("x"))
    assert (status, answer["error"]["quartet"]["reason"]) == (429, "QUOTA_EXHAUSTED")
    with pytest.raises(PermissionDenied):
        await tenants.delete_tenant(tenant_pb2.DeleteTenantRequest(tenant_id="by-command"), call(secret))
    await tenants.delete_tenant(tenant_pb2.DeleteTenantRequest(tenant_id="by-grpc"), call())
    await guarded.quartet("tenants", "delete", "by-command", "--yes")
    assert set(await listed()) == {"default"}
    await tenants.close()


async def test_a_deleted_tenant_is_nowhere_any_more(guarded: Suite, provider: ProviderDouble) -> None:
    provider.reset()
    tenant = "zanzibar-9"
    await guarded.quartet("tenants", "create", tenant)
    secret = await create_key(guarded, "first", "--scope", "keys", "--tenant", tenant)
    headers = {"authorization": f"Bearer {secret}"}
    document = guarded.home.parent / "about.md"
    document.write_text(f"# {WORD}\n\nThe {WORD} is a metal that was found near the lake in 1901.\n")
    own = Suite(
        url=guarded.url,
        api_key=secret,
        home=guarded.home,
        process=guarded.process,
        environment={**guarded.environment, "QUARTET_API_KEY": secret},
    )
    await own.quartet("ingest", str(document))
    for body in (
        chat(f"Tell me of {WORD}"),
        {**chat(f"When was the {WORD} found?"), "model": "agent/default"},
    ):
        status, answer = await post(guarded, "/v1/chat/completions", headers | {"idempotency-key": "k"}, body)
        assert status in (200, 409), answer
    status, _ = await post(
        guarded,
        "/v1/chat/completions",
        headers,
        {**chat(f"When was the {WORD} found?"), "model": "agent/default"},
    )
    assert status == 200
    everywhere = {"gateway.tenants", "pipeline.collections", "orchestrator.runs", "router.ledger"}
    async with asyncio.timeout(20):
        while not everywhere <= set(await find_in_postgres(guarded, tenant)):  # noqa: ASYNC110 - the routers write in their own time
            await asyncio.sleep(0.2)
    assert await find_in_redis(guarded, tenant) != []
    assert json.loads(await guarded.quartet("tenants", "list", "--json"))
    await guarded.quartet("tenants", "delete", tenant, "--yes")
    assert await find_in_postgres(guarded, tenant) == ["gateway.audit_log"]
    assert await find_in_postgres(guarded, WORD) == []
    assert await find_in_redis(guarded, tenant) == []
    status, _ = await post(guarded, "/v1/chat/completions", headers, chat("x"))
    assert status == 401
