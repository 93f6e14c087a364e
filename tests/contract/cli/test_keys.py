"""The commands for keys against a real gateway and its database."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from services.gateway.adapters.postgres.keys import ensure_dev_key
from services.gateway.settings import Settings
from services.gateway.wiring import build
from services.kit.testing import serve
from tests.contract.cli.edge import Edge, Result
from tests.contract.cli.test_looking import rows


@dataclass(frozen=True, slots=True)
class Holder:
    """Someone at a terminal, with the key that `quartet up` made."""

    edge: Edge
    secret: str

    async def keys(self, *arguments: str, secret: str = "") -> Result:
        environment = {"QUARTET_API_KEY": secret or self.secret}
        return await self.edge.run("keys", *arguments, environment=environment)

    async def listed(self) -> list[list[str]]:
        result = await self.keys("list")
        assert result.code == 0, result.err
        return rows(result.out)


@pytest_asyncio.fixture
async def holder(database_url: str, tmp_path: Path) -> AsyncIterator[Holder]:
    secret = await ensure_dev_key(database_url, tmp_path / "dev.key")
    async with build(Settings(database_url=database_url)) as bindings, serve(*bindings) as server:
        yield Holder(Edge(address=server.address), secret)


async def test_a_key_is_made_listed_rotated_and_revoked(holder: Holder) -> None:
    made = await holder.keys("create", "ci", "--scope", "keys", "--scope", "rpc:ListKeys", "--expires", "30d")
    assert made.code == 0, made.err
    secret = made.out.strip()
    key_id = secret.rpartition("_")[0]
    assert made.out == f"{secret}\n"
    assert "shown this once" in made.err
    assert secret not in made.err
    header, first, *_ = await holder.listed()
    assert header == ["key", "name", "state", "scopes", "created", "expires"]
    assert first[:4] == [key_id, "ci", "live", "keys, rpc:ListKeys"]
    assert (await holder.keys("list", secret=secret)).code == 0
    rotated = await holder.keys("rotate", key_id, "--overlap", "24h")
    assert rotated.out.startswith(f"{key_id}_")
    assert rotated.out.strip() != secret
    assert (await holder.keys("list", secret=secret)).code == 0
    assert "the old one works until the overlap ends" in rotated.err
    ended = await holder.keys("rotate", key_id, "--overlap", "0")
    assert "the old one no longer works" in ended.err
    revoked = await holder.keys("revoke", key_id)
    assert revoked.out.startswith(f"key {key_id} is revoked since ")
    assert (await holder.listed())[1][2] == "revoked"


async def test_as_json_a_key_comes_with_the_contracts_names(holder: Holder) -> None:
    arguments = ("create", "ci", "--scope", "*", "--input-tokens", "0", "--json")
    made = json.loads((await holder.keys(*arguments)).out)
    assert made["secret"].startswith(made["key"]["id"])
    assert made["key"]["limits"] == {"input_tokens_per_request": 0}
    assert "expire_time" not in made["key"]
    listed = json.loads((await holder.keys("list", "--limit", "1", "--json")).out)
    assert listed["next_page_token"] == listed["keys"][0]["id"] == made["key"]["id"]


async def test_a_further_page_is_told(holder: Holder) -> None:
    key_id = (await holder.keys("create", "ci", "--scope", "*")).out.rpartition("_")[0]
    first = await holder.keys("list", "--limit", "1")
    assert first.err == f"there is more: --page {key_id}\n"
    rest = await holder.keys("list", "--page", key_id)
    assert rows(rest.out)[1][0] == holder.secret.rpartition("_")[0]


async def test_refusals_say_what_to_do(holder: Holder) -> None:
    narrow = (await holder.keys("create", "narrow", "--scope", "rpc:Generate")).out.strip()
    refused = await holder.keys("list", secret=narrow)
    assert (refused.code, refused.out) == (1, "")
    assert "[SCOPE_MISSING" in refused.err
    unknown = await holder.keys("revoke", "qk_000000000000")
    assert "[KEY_NOT_FOUND" in unknown.err
    scope = await holder.keys("create", "x", "--scope", "admin")
    assert "[INVALID_SCOPE, field scopes[0]" in scope.err
    assert [result.code for result in (unknown, scope)] == [1, 1]


async def test_a_hostile_name_reaches_no_terminal(holder: Holder) -> None:
    result = await holder.keys("create", "\x1b]0;mine\x07", "--scope", "*")
    assert result.code == 1
    assert "field name" in result.err
    assert "\x1b" not in result.out + result.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "x", "--scope", "*", "--expires", "soon"),
        ("create", "x"),
        ("create", "x", "--scope", "*", "--input-tokens", "-1"),
        ("rotate", "qk_000000000000", "--overlap", "1 day"),
        ("revoke",),
    ],
)
async def test_wrong_usage_ends_with_2_and_asks_nobody(arguments: tuple[str, ...]) -> None:
    result = await Edge(address="127.0.0.1:1").run("keys", *arguments)
    assert result.code == 2
    assert result.out == ""
