"""Whatever body comes in, a dialect answers it, or refuses it as the client's own fault, in its own shape."""

import json
import logging
from collections import Counter

import pytest
from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

from services.kit.binding import Rpc, rpcs_of
from tests.fuzz.bodies import DIALECTS, Body, bodies
from tests.fuzz.conftest import Gateway
from tests.fuzz.door import Outcome, judge
from tests.fuzz.effort import attempt_all
from tests.fuzz.messages import contracts

log = logging.getLogger(__name__)

PACKAGE = "quartet.gateway.v1"
RPCS = {
    rpc.name.removeprefix(f"{PACKAGE}."): rpc
    for contract in contracts(PACKAGE)
    for rpc in rpcs_of(contract)
    if rpc.request_type is HttpBody
}


async def post(gateway: Gateway, rpc: Rpc, body: bytes) -> Outcome:
    return await gateway.door.call(
        rpc, [HttpBody(content_type="application/json", data=body).SerializeToString()]
    )


def is_served(gateway: Gateway, rpc: Rpc) -> bool:
    return any(binding.method(rpc) for binding in gateway.bindings if rpc in binding.rpcs)


def test_every_dialect_is_among_them() -> None:
    assert set(RPCS) == set(DIALECTS)


@pytest.mark.parametrize("name", DIALECTS)
async def test_no_body_is_our_fault(gateway: Gateway, name: str) -> None:
    tally: Counter[str] = Counter()

    async def attempt(body: bytes) -> None:
        outcome = await post(gateway, RPCS[name], body)
        judge(outcome)
        tally[outcome.kind] += 1

    await attempt_all(bodies(DIALECTS[name]), attempt)
    log.info("%s: %s", name, dict(tally))


@pytest.mark.parametrize(
    ("name", "body"), [(name, body) for name, bodies in DIALECTS.items() for body in bodies]
)
async def test_the_bodies_themselves_are_answered(gateway: Gateway, name: str, body: Body) -> None:
    outcome = await post(gateway, RPCS[name], json.dumps(body).encode())
    judge(outcome)
    assert outcome.is_answer == is_served(gateway, RPCS[name]), outcome.responses[0].data.decode()
