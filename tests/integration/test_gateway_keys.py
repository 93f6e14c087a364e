import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from quartet.gateway.v1 import document_pb2, gateway_pb2, openai_pb2
from services.gateway.adapters.postgres.audit import PostgresAudit
from services.gateway.adapters.postgres.keys import PostgresKeys, ensure_dev_key
from services.gateway.domain.keys import key_id_of, make_text, seal_text
from services.gateway.settings import Settings
from services.gateway.wiring import build
from services.kit.call import Call
from services.kit.client import remote
from services.kit.errors import FailedPrecondition, Unauthenticated, Unavailable
from services.kit.postgres import Pool
from services.kit.serving import Server
from services.kit.settings import SettingsError


async def execute(database_url: str, statement: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute(statement.encode())


async def test_the_dev_key_is_made_once_and_kept_to_its_owner(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "home" / "dev.key"
    text = await ensure_dev_key(database_url, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().strip() == text
    assert await ensure_dev_key(database_url, path) == text


async def test_a_database_that_lost_the_dev_key_gets_it_again(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "dev.key"
    text = await ensure_dev_key(database_url, path)
    await execute(database_url, "delete from gateway.tenants")
    assert await ensure_dev_key(database_url, path) == text
    async with keys_in(database_url) as keys:
        key = await keys.find(key_id_of(text))
    assert key is not None
    assert key.matches(text)
    assert (key.tenant, key.scopes) == ("default", frozenset({"*"}))


async def test_no_table_holds_the_secret(database_url: str, tmp_path: Path) -> None:
    text = await ensure_dev_key(database_url, tmp_path / "dev.key")
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        rows = await (
            await connection.execute("select row_to_json(k)::text from gateway.api_keys k")
        ).fetchall()
    assert len(rows) == 1
    assert text.rpartition("_")[2] not in rows[0][0]


async def test_a_file_that_holds_no_key_is_not_overwritten(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "dev.key"
    path.write_text("mine")
    with pytest.raises(FailedPrecondition, match="remove the file"):
        await ensure_dev_key(database_url, path)
    assert path.read_text() == "mine"


async def test_a_dev_key_that_was_revoked_is_not_brought_back(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "dev.key"
    await ensure_dev_key(database_url, path)
    await execute(database_url, "update gateway.api_keys set revoke_time = now()")
    with pytest.raises(FailedPrecondition, match="remove the file"):
        await ensure_dev_key(database_url, path)


async def test_a_dev_key_that_was_rotated_keeps_its_new_secret(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "dev.key"
    key_id = key_id_of(await ensure_dev_key(database_url, path))
    text = make_text(key_id)
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute("update gateway.api_keys set salt = %s, digest = %s", seal_text(text))
    with pytest.raises(FailedPrecondition, match="was rotated"):
        await ensure_dev_key(database_url, path)
    path.write_text(text)
    assert await ensure_dev_key(database_url, path) == text


@asynccontextmanager
async def keys_in(database_url: str, *, wait_s: float = 0) -> AsyncIterator[PostgresKeys]:
    async with Pool(database_url, min_size=1, max_size=1, open=False, timeout=1) as pool:
        if wait_s:
            await pool.wait(wait_s)
        yield PostgresKeys(pool)


@pytest.mark.parametrize("key_id", ["", "' OR '1'='1", "qk_000000000000", "%", "qk_\\'; drop table x"])
async def test_a_strange_id_finds_nothing(database_url: str, key_id: str) -> None:
    async with keys_in(database_url, wait_s=30) as keys:
        assert await keys.find(key_id) is None


async def test_a_database_that_is_away_is_said_so() -> None:
    async with keys_in("postgresql://nobody@127.0.0.1:1/none?connect_timeout=1") as keys:
        with pytest.raises(Unavailable) as caught:
            await keys.find("qk_000000000000")
    assert caught.value.reason == "KEY_STORE_UNAVAILABLE"


async def test_a_gateway_without_a_database_names_the_variable() -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        async with build(Settings(database_url="")):
            pass


async def test_a_served_gateway_checks_keys_and_tells_of_absent_peers(
    database_url: str, tmp_path: Path
) -> None:
    text = await ensure_dev_key(database_url, tmp_path / "dev.key")
    nowhere = "127.0.0.1:1"
    settings = Settings(
        port=0,
        database_url=database_url,
        router_address=nowhere,
        pipeline_address=nowhere,
        orchestrator_address=nowhere,
        drain_timeout_s=0.2,
    )
    metadata = {"authorization": f"Bearer {text}"}
    async with build(settings) as bindings, Server(bindings, settings) as server:
        native = remote("quartet.gateway.v1.GatewayService", server.address)
        http = remote("quartet.gateway.v1.OpenAIService", server.address)
        try:
            request = gateway_pb2.ListModelsRequest()
            with pytest.raises(Unavailable):
                await native.list_models(request, Call.root(timeout_s=5, metadata=metadata))
            with pytest.raises(Unauthenticated):
                await native.list_models(
                    request, Call.root(timeout_s=5, metadata={"x-api-key": text[:-1] + "g"})
                )
            call = Call.root(timeout_s=5, metadata=metadata)
            body = HttpBody(data=b'{"model":"auto","messages":[{"role":"user","content":"x"}]}')
            answers = [answer async for answer in http.create_chat_completion(body, call)]
            assert b'"server_error"' in answers[0].data
            assert call.response_headers["x-quartet-status"] == "503"
        finally:
            await native.close()
            await http.close()
    assert {binding.service_name for binding in bindings if binding.public} == {
        document_pb2.DESCRIPTOR.services_by_name["DocumentService"].full_name,
        gateway_pb2.DESCRIPTOR.services_by_name["GatewayService"].full_name,
        openai_pb2.DESCRIPTOR.services_by_name["OpenAIService"].full_name,
        "quartet.gateway.v1.AnthropicService",
        "quartet.gateway.v1.KeyService",
        "quartet.gateway.v1.RunService",
        "quartet.gateway.v1.TenantService",
    }


async def test_old_entries_of_the_audit_log_go_where_that_is_wished(database_url: str) -> None:
    await execute(
        database_url,
        "insert into gateway.audit_log (tenant, key_id, action, subject, time) "
        "select 'acme', 'k', 'create_key', 's', now() - make_interval(days => n) "
        "from generate_series(0, 9) n",
    )
    async with Pool(database_url, min_size=1, max_size=1, open=False, timeout=30) as pool:
        audit = PostgresAudit(pool)
        await audit.prune(timedelta(days=7, hours=1))
        left = await audit.page(None, action="", subject="", before=None, limit=100)
    assert len(left) == 8
