import asyncio
from pathlib import Path

import psycopg
import pytest

from quartet.gateway.v1 import gateway_pb2, key_pb2
from services.gateway.adapters.postgres.keys import ensure_dev_key
from services.gateway.settings import Settings
from services.gateway.wiring import KEYS, ORCHESTRATOR, PIPELINE, ROUTER, build
from services.kit.call import Call
from services.kit.errors import PermissionDenied, Unauthenticated
from services.kit.testing import client_of
from tests.contract.gateway.neighbours import FakeOrchestrator, FakePipeline, FakeRouter
from tests.doubles.issuer import AUDIENCE, ISSUER, Issuer

NATIVE = "quartet.gateway.v1.GatewayService"


def call(token: str) -> Call:
    return Call.root(timeout_s=10, metadata={"authorization": f"Bearer {token}"})


async def test_a_token_of_the_configured_issuer_is_a_credential(database_url: str, tmp_path: Path) -> None:
    await ensure_dev_key(database_url, tmp_path / "dev.key")
    peers: dict[str, object] = {
        ROUTER: FakeRouter(),
        PIPELINE: FakePipeline(),
        ORCHESTRATOR: FakeOrchestrator(),
    }
    async with Issuer().serve() as issuer:
        settings = Settings(
            database_url=database_url,
            redis_url="",
            jwt_issuer=ISSUER,
            jwt_audience=AUDIENCE,
            jwt_key_set=issuer.url,
        )
        async with build(settings, peers) as bindings:
            services = {binding.service_name: binding.service for binding in bindings}
            async with (
                client_of("remote", NATIVE, services[NATIVE]) as native,
                client_of("remote", KEYS, services[KEYS]) as keys,
            ):
                models = gateway_pb2.ListModelsRequest()
                good = issuer.token(tenant="default")
                assert (await native.list_models(models, call(good))).models
                with pytest.raises(Unauthenticated) as caught:
                    await native.list_models(models, call(issuer.token(tenant="acme")))
                assert caught.value.reason == "INVALID_TOKEN"
                narrow = issuer.token(tenant="default", scope="quartet:rpc:Generate")
                with pytest.raises(PermissionDenied):
                    await native.list_models(models, call(narrow))
                request = key_pb2.CreateKeyRequest(name="by a token", scopes=["rpc:Generate"])
                await keys.create_key(request, call(good))
                async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
                    by = await (await connection.execute("select key_id from gateway.audit_log")).fetchone()
                    assert by is not None
                    assert by[0].startswith("jwt_")
                    await connection.execute("delete from gateway.tenants")
                await asyncio.sleep(1)
                with pytest.raises(Unauthenticated):
                    await native.list_models(models, call(good))
        assert issuer.fetches == 1
