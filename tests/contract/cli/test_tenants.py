"""The commands for tenants and the audit log against real gateways and their database."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from services.gateway.adapters.postgres.keys import ensure_dev_key
from services.gateway.settings import Settings
from services.gateway.wiring import ORCHESTRATOR, PIPELINE, ROUTER, build
from services.kit.testing import serve
from tests.contract.cli.edge import Edge, Result
from tests.contract.cli.test_looking import rows
from tests.contract.gateway.neighbours import FakeOrchestrator, FakePipeline, FakeRouter

Run = Callable[..., Awaitable[Result]]


@pytest_asyncio.fixture
async def run(database_url: str, tmp_path: Path) -> AsyncIterator[Run]:
    secret = await ensure_dev_key(database_url, tmp_path / "dev.key")
    peers = {ROUTER: FakeRouter(), PIPELINE: FakePipeline(), ORCHESTRATOR: FakeOrchestrator()}
    async with build(Settings(database_url=database_url), peers) as bindings, serve(*bindings) as server:
        edge = Edge(address=server.address)
        yield lambda *arguments: edge.run(*arguments, environment={"QUARTET_API_KEY": secret})


async def test_a_tenant_is_made_bounded_given_a_key_and_deleted(run: Run) -> None:
    made = await run("tenants", "create", "acme", "--name", "Acme Ltd", "--quota", "tokens_per_day=5")
    assert (made.code, made.out) == (0, "tenant acme is made\n"), made.err
    listed = rows((await run("tenants", "list")).out)
    assert listed[1][:4] == ["acme", "Acme Ltd", "live", "tokens_per_day=5"]
    assert listed[2][0] == "default"
    bounded = await run("tenants", "limits", "acme", "--quota", "concurrent_calls=0")
    assert rows(bounded.out)[1][3] == "concurrent_calls=0"
    key = await run("keys", "create", "first", "--tenant", "acme", "--scope", "keys", "--json")
    assert json.loads(key.out)["key"]["tenant"] == "acme"
    gone = await run("tenants", "delete", "acme", "--yes")
    assert gone.out == "tenant acme is gone, with 3 rows and entries\n", gone.err
    assert len(rows((await run("tenants", "list")).out)) == 2
    told = [row[3] for row in rows((await run("audit")).out)[1:]]
    assert told == ["delete_tenant", "create_key", "set_tenant_limits", "create_tenant"]
    only = json.loads((await run("audit", "--action", "create_key", "--json")).out)
    assert [entry["tenant"] for entry in only["entries"]] == ["acme"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("tenants", "create", "Acme"), "id"),
        (("tenants", "create", "acme", "--quota", "tokens=1"), "--quota"),
        (("tenants", "delete", "default", "--yes"), "own tenant"),
        (("tenants", "limits", "nobody"), "no tenant"),
        (("audit", "--action", "drop"), "action"),
    ],
)
async def test_what_cannot_be_done_says_why(run: Run, arguments: tuple[str, ...], told: str) -> None:
    result = await run(*arguments)
    assert result.code != 0
    assert told in result.err


async def test_nothing_is_deleted_without_a_yes(run: Run) -> None:
    await run("tenants", "create", "acme")
    assert (await run("tenants", "delete", "acme")).code != 0
    assert "acme" in (await run("tenants", "list")).out
