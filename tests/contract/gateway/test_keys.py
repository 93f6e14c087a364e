import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from psycopg.rows import dict_row

from quartet.gateway.v1 import gateway_pb2, key_pb2
from services.gateway.domain.keys import ApiKey, make_key
from services.gateway.settings import Settings
from services.gateway.wiring import KEYS, ORCHESTRATOR, PIPELINE, ROUTER, build
from services.kit.call import Call
from services.kit.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    QuartetError,
    Unauthenticated,
)
from services.kit.testing import KINDS, client_of
from tests.contract.gateway.neighbours import FakeOrchestrator, FakePipeline, FakeRouter

NATIVE = "quartet.gateway.v1.GatewayService"
EFFECTIVE_S = 1.0
"""In which a change has reached every replica."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Two gateways on one database, and a key of `acme` with every scope."""

    database_url: str
    keys: Any
    native: Any
    other_native: Any
    root: str

    async def grant(self, *scopes: str, tenant: str = "acme") -> str:
        """The secret of a key that nobody's scopes bounded."""
        key, secret = make_key(tenant=tenant, scopes=frozenset(scopes))
        await keep(self.database_url, key)
        return secret

    async def create(self, *scopes: str, by: str = "", **members: object) -> key_pb2.CreateKeyResponse:
        request = key_pb2.CreateKeyRequest(**{"name": "ci", "scopes": scopes, **members})  # type: ignore[arg-type]
        response: key_pb2.CreateKeyResponse = await self.keys.create_key(request, call(by or self.root))
        return response

    async def rotate(self, key_id: str, overlap_s: float | None = None) -> key_pb2.RotateKeyResponse:
        request = key_pb2.RotateKeyRequest(key_id=key_id)
        if overlap_s is not None:
            request.overlap.FromMilliseconds(round(overlap_s * 1000))
        response: key_pb2.RotateKeyResponse = await self.keys.rotate_key(request, call(self.root))
        return response

    async def revoke(self, key_id: str) -> key_pb2.RevokeKeyResponse:
        request = key_pb2.RevokeKeyRequest(key_id=key_id)
        response: key_pb2.RevokeKeyResponse = await self.keys.revoke_key(request, call(self.root))
        return response

    async def admits(self, secret: str) -> list[bool]:
        """Whether each gateway lets the secret in."""
        return [await admits(native, secret) for native in (self.native, self.other_native)]

    async def audit(self) -> list[dict[str, Any]]:
        async with await psycopg.AsyncConnection.connect(
            self.database_url, row_factory=dict_row
        ) as connection:
            found = await connection.execute("select * from gateway.audit_log order by number")
            return await found.fetchall()


def call(secret: str) -> Call:
    return Call.root(timeout_s=10, metadata={"authorization": f"Bearer {secret}"})


async def admits(native: Any, secret: str) -> bool:
    try:
        await native.list_models(gateway_pb2.ListModelsRequest(), call(secret))
    except Unauthenticated:
        return False
    return True


async def keep(database_url: str, key: ApiKey) -> None:
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        await connection.execute(
            "insert into gateway.tenants (id) values (%s) on conflict do nothing", (key.tenant,)
        )
        await connection.execute(
            "insert into gateway.api_keys (id, tenant, scopes, salt, digest) values (%s, %s, %s, %s, %s)",
            (key.id, key.tenant, sorted(key.scopes), key.salt, key.digest),
        )


@pytest_asyncio.fixture(params=KINDS)
async def suite(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Suite]:
    kind: str = request.param
    key, root = make_key(tenant="acme", scopes=frozenset({"*"}))
    await keep(database_url, key)
    peers = {ROUTER: FakeRouter(), PIPELINE: FakePipeline(), ORCHESTRATOR: FakeOrchestrator()}
    async with AsyncExitStack() as stack:

        async def replica() -> dict[str, Any]:
            bindings = await stack.enter_async_context(build(Settings(database_url=database_url), peers))
            return {
                binding.service_name: await stack.enter_async_context(
                    client_of(kind, binding.service_name, binding.service)
                )
                for binding in bindings
                if binding.service_name in (KEYS, NATIVE)
            }

        one, other = await replica(), await replica()
        yield Suite(
            database_url=database_url,
            keys=one[KEYS],
            native=one[NATIVE],
            other_native=other[NATIVE],
            root=root,
        )


async def test_a_created_key_works_and_its_secret_is_nowhere_else(suite: Suite) -> None:
    limits = key_pb2.Limits(input_tokens_per_request=7, micro_usd_per_day=0, tokens_per_day=2**63 - 1)
    made = await suite.create("rpc:ListModels", lifetime=Duration(seconds=3600), limits=limits)
    assert made.secret.startswith(f"{made.key.prefix}_")
    assert (made.key.tenant, made.key.name, list(made.key.scopes)) == ("acme", "ci", ["rpc:ListModels"])
    assert made.key.expire_time.seconds - made.key.create_time.seconds == 3600
    assert made.key.limits == limits
    assert await suite.admits(made.secret) == [True, True]
    listed = await suite.keys.list_keys(key_pb2.ListKeysRequest(), call(suite.root))
    assert listed.keys[0] == made.key
    secret = made.secret.rpartition("_")[2]
    assert secret not in str(listed)
    assert secret not in json.dumps(await suite.audit(), default=str)


async def test_a_keys_own_limit_holds_from_its_creation(suite: Suite) -> None:
    made = await suite.create("*", limits=key_pb2.Limits(input_tokens_per_request=0))
    request = gateway_pb2.GenerateRequest()
    request.generation.messages.add(role=2).parts.add(text="Hello")
    with pytest.raises(InvalidArgument) as caught:
        await suite.native.generate(request, call(made.secret))
    assert caught.value.reason == "TOKEN_LIMIT_EXCEEDED"


async def test_a_revoked_key_stops_on_every_replica_within_a_second(suite: Suite) -> None:
    made = await suite.create("*")
    assert await suite.admits(made.secret) == [True, True]
    revoked = await suite.revoke(made.key.id)
    assert revoked.key.HasField("revoke_time")
    await asyncio.sleep(EFFECTIVE_S)
    assert await suite.admits(made.secret) == [False, False]
    again = await suite.revoke(made.key.id)
    assert again == revoked
    assert [entry["action"] for entry in await suite.audit()] == ["create_key", "revoke_key"]


async def test_a_revoked_holder_changes_nothing_although_replicas_still_know_it(suite: Suite) -> None:
    holder = await suite.create("*")
    await suite.keys.list_keys(key_pb2.ListKeysRequest(), call(holder.secret))
    await suite.revoke(holder.key.id)
    with pytest.raises(Unauthenticated):
        await suite.create("*", by=holder.secret)


async def test_a_key_expires_by_itself(suite: Suite) -> None:
    made = await suite.create("*", lifetime=Duration(seconds=2))
    assert await suite.admits(made.secret) == [True, True]
    await asyncio.sleep(2.1)
    assert await suite.admits(made.secret) == [False, False]


async def test_a_rotated_secret_works_until_its_overlap_ends(suite: Suite) -> None:
    made = await suite.create("*")
    began = time.monotonic()
    rotated = await suite.rotate(made.key.id, overlap_s=2)
    assert rotated.key == made.key
    # The new secret first: with it each replica learns of the rotation.
    assert await suite.admits(rotated.secret) == [True, True]
    assert await suite.admits(made.secret) == [True, True]
    await asyncio.sleep(max(0, began + 2.2 - time.monotonic()))
    assert await suite.admits(made.secret) == [False, False]
    assert await suite.admits(rotated.secret) == [True, True]


async def test_an_overlap_of_zero_ends_the_old_secret_and_none_means_a_day(suite: Suite) -> None:
    first = (await suite.create("*")).secret
    key_id = first.rpartition("_")[0]
    second = (await suite.rotate(key_id)).secret
    assert await suite.admits(first) == await suite.admits(second) == [True, True]
    third = (await suite.rotate(key_id, overlap_s=0)).secret
    await asyncio.sleep(EFFECTIVE_S)
    assert [await suite.admits(secret) for secret in (first, second, third)] == [
        [False, False],
        [False, False],
        [True, True],
    ]
    assert [entry["details"].get("overlap_s") for entry in await suite.audit()] == [None, 86400.0, 0.0]


async def test_a_rotation_under_load_loses_no_call(suite: Suite) -> None:
    made = await suite.create("*")
    ended = asyncio.Event()

    async def load() -> list[bool]:
        seen = []
        while not ended.is_set():
            seen += await suite.admits(made.secret)
        return seen

    loads = [asyncio.create_task(load()) for _ in range(4)]
    await suite.rotate(made.key.id)
    await asyncio.sleep(EFFECTIVE_S)
    ended.set()
    seen = [admitted for admitted_calls in await asyncio.gather(*loads) for admitted in admitted_calls]
    assert len(seen) > 20
    assert all(seen)


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_a_key_that_ended_is_not_rotated(suite: Suite, end: str) -> None:
    made = await suite.create("*", lifetime=Duration(nanos=1_000) if end == "expired" else None)
    if end == "revoked":
        await suite.revoke(made.key.id)
    with pytest.raises(FailedPrecondition) as caught:
        await suite.rotate(made.key.id)
    assert caught.value.reason == "KEY_ENDED"


async def test_without_the_scope_keys_are_out_of_reach(suite: Suite) -> None:
    secret = await suite.grant("rpc:ListKeys", "rpc:CreateKey", "rpc:RotateKey", "rpc:RevokeKey")
    key_id = secret.rpartition("_")[0]
    for request in (
        suite.keys.create_key(key_pb2.CreateKeyRequest(name="x", scopes=["keys"]), call(secret)),
        suite.keys.list_keys(key_pb2.ListKeysRequest(), call(secret)),
        suite.keys.rotate_key(key_pb2.RotateKeyRequest(key_id=key_id), call(secret)),
        suite.keys.revoke_key(key_pb2.RevokeKeyRequest(key_id=key_id), call(secret)),
    ):
        with pytest.raises(PermissionDenied) as caught:
            await request
        assert caught.value.metadata == {"scope": "keys"}
    assert await suite.audit() == []


async def test_a_key_gets_no_further_than_itself_by_creating_or_rotating(suite: Suite) -> None:
    narrow = await suite.grant("keys", "route:simple_faq")
    mighty = await suite.create("*")
    for scopes in (["*"], ["keys"], ["route:technical"]):
        with pytest.raises(PermissionDenied):
            await suite.create(*scopes, by=narrow)
    with pytest.raises(PermissionDenied):
        await suite.keys.rotate_key(key_pb2.RotateKeyRequest(key_id=mighty.key.id), call(narrow))
    assert (await suite.create("route:simple_faq", by=narrow)).key.tenant == "acme"


async def test_another_tenants_key_is_not_there(suite: Suite) -> None:
    stranger = await suite.grant("*", tenant="other")
    made = await suite.create("*")
    for request in (
        suite.keys.rotate_key(key_pb2.RotateKeyRequest(key_id=made.key.id), call(stranger)),
        suite.keys.revoke_key(key_pb2.RevokeKeyRequest(key_id=made.key.id), call(stranger)),
    ):
        with pytest.raises(NotFound) as caught:
            await request
        assert caught.value.reason == "KEY_NOT_FOUND"
    page = key_pb2.ListKeysRequest(page_token=made.key.id)
    assert not (await suite.keys.list_keys(page, call(stranger))).keys
    listed = await suite.keys.list_keys(key_pb2.ListKeysRequest(), call(stranger))
    assert {key.tenant for key in listed.keys} == {"other"}
    assert await suite.admits(made.secret) == [True, True]


async def test_the_tenant_is_the_credentials_whatever_the_metadata_claims(suite: Suite) -> None:
    claiming = Call.root(
        timeout_s=10,
        metadata={"authorization": f"Bearer {suite.root}", "x-quartet-tenant": "other"},
    )
    request = key_pb2.CreateKeyRequest(name="x", scopes=["keys"])
    assert (await suite.keys.create_key(request, claiming)).key.tenant == "acme"


async def test_keys_are_listed_newest_first_page_by_page(suite: Suite) -> None:
    made = [(await suite.create("keys", name=f"key {number}")).key.id for number in range(4)]
    seen: list[str] = []
    token = ""
    for _ in range(3):
        request = key_pb2.ListKeysRequest(page_size=2, page_token=token)
        page = await suite.keys.list_keys(request, call(suite.root))
        seen += [key.id for key in page.keys]
        token = page.next_page_token
    assert token == ""
    assert seen == [*reversed(made), suite.root.rpartition("_")[0]]


@pytest.mark.parametrize(
    "name", ["' OR '1'='1", "'; drop table gateway.api_keys; --", "ключ 🔑", "%s {0} $1"]
)
async def test_a_name_is_a_name_whatever_it_says(suite: Suite, name: str) -> None:
    assert (await suite.create("keys", name=name)).key.name == name


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "   "}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "\x1b[2J"}, "name"),
        ({"name": "\u202egnp"}, "name"),
        ({"name": "n" * 257}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["keys", "admin"]}, "scopes[1]"),
        ({"lifetime": Duration()}, "lifetime"),
        ({"lifetime": Duration(seconds=-1)}, "lifetime"),
        ({"lifetime": Duration(seconds=2**62)}, "lifetime"),
        ({"limits": key_pb2.Limits(tokens_per_day=2**64 - 1)}, "limits.tokens_per_day"),
    ],
)
async def test_a_wrong_member_is_named(suite: Suite, members: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await suite.create(**{"scopes": ["keys"], **members})  # type: ignore[arg-type]
    assert field in [violation.field for violation in caught.value.field_violations]
    assert await suite.audit() == []


@pytest.mark.parametrize(
    "key_id", ["qk_000000000000", "' OR '1'='1", "\x00", "qk_000000000000\n", "%", "ключ"]
)
async def test_an_id_that_is_no_keys_is_not_found(suite: Suite, key_id: str) -> None:
    for change in (suite.rotate, suite.revoke):
        with pytest.raises(NotFound):
            await change(key_id)


@pytest.mark.parametrize("overlap_s", [-1, 91 * 86400])
async def test_an_overlap_has_bounds(suite: Suite, overlap_s: float) -> None:
    with pytest.raises(InvalidArgument):
        await suite.rotate((await suite.create("keys")).key.id, overlap_s=overlap_s)


async def test_a_token_of_no_answer_is_refused(suite: Suite) -> None:
    with pytest.raises(QuartetError) as caught:
        await suite.keys.list_keys(key_pb2.ListKeysRequest(page_token="\x00"), call(suite.root))
    assert caught.value.field_violations[0].field == "page_token"


async def test_each_change_is_noted_with_who_did_it(suite: Suite) -> None:
    made = await suite.create("keys")
    await suite.rotate(made.key.id)
    await suite.revoke(made.key.id)
    entries = await suite.audit()
    assert [entry["action"] for entry in entries] == ["create_key", "rotate_key", "revoke_key"]
    who = suite.root.rpartition("_")[0]
    assert {(entry["tenant"], entry["key_id"], entry["subject"]) for entry in entries} == {
        ("acme", who, made.key.id)
    }
    assert all(entry["time"] is not None for entry in entries)


async def test_a_change_whose_entry_cannot_be_written_does_not_happen(suite: Suite) -> None:
    async with await psycopg.AsyncConnection.connect(suite.database_url) as connection:
        await connection.execute("alter table gateway.audit_log add constraint shut check (false)")
    with pytest.raises(QuartetError):
        await suite.create("keys")
    listed = await suite.keys.list_keys(key_pb2.ListKeysRequest(), call(suite.root))
    assert len(listed.keys) == 1
