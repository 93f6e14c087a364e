"""Whatever message comes in, an rpc answers it, or refuses it as the client's own fault."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence

import pytest
from google.protobuf.message import Message
from hypothesis import strategies as st

from quartet.common.v1 import message_pb2
from quartet.gateway.v1 import gateway_pb2
from services.kit.binding import Rpc, rpcs_of
from tests.fuzz.conftest import Gateway
from tests.fuzz.door import judge
from tests.fuzz.effort import attempt_all
from tests.fuzz.messages import contracts, wires

log = logging.getLogger(__name__)

PACKAGE = "quartet.gateway.v1"
RPCS = [rpc for contract in contracts(PACKAGE) for rpc in rpcs_of(contract)]
NAMES = [rpc.name.removeprefix(f"{PACKAGE}.") for rpc in RPCS]


def test_every_public_contract_is_among_them(gateway: Gateway) -> None:
    assert {binding.service_name for binding in gateway.bindings if binding.public} == set(contracts(PACKAGE))


@pytest.mark.parametrize("rpc", RPCS, ids=NAMES)
async def test_no_message_is_our_fault(gateway: Gateway, rpc: Rpc) -> None:
    tally: Counter[str] = Counter()

    async def attempt(sent: Sequence[bytes]) -> None:
        outcome = await gateway.door.call(rpc, sent)
        judge(outcome)
        tally["answered" if outcome.is_answer else outcome.error.status if outcome.error else "refused"] += 1

    single = wires(rpc.request_type.DESCRIPTOR, gateway.known)
    sent = st.lists(
        single, min_size=0 if rpc.client_streaming else 1, max_size=4 if rpc.client_streaming else 1
    )
    await attempt_all(sent, attempt)
    served = any(binding.method(rpc) for binding in gateway.bindings if rpc in binding.rpcs)
    speaks_json = rpc.request_type.DESCRIPTOR.full_name == "google.api.HttpBody"
    beyond_its_form = set(tally) - {"INVALID_ARGUMENT", "UNIMPLEMENTED"}
    assert speaks_json or bool(beyond_its_form) == served, f"{tally}: some are right in themselves"
    log.info("%s: %s", rpc.name, dict(tally))


SOON_S = 2.0
FOUND: list[tuple[str, Message]] = [
    ("GatewayService/RecordOutcome", gateway_pb2.RecordOutcomeRequest(trace_id="a" * 32, comment="a\x00b")),
    (
        "GatewayService/CountTokens",
        gateway_pb2.CountTokensRequest(
            messages=[message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part()] * 10**6)]
        ),
    ),
]
"""What was our fault once."""


@pytest.mark.parametrize(("name", "message"), FOUND, ids=[name for name, _ in FOUND])
async def test_what_was_found_before_is_not_our_fault_any_more(
    gateway: Gateway, name: str, message: Message
) -> None:
    rpc = dict(zip(NAMES, RPCS, strict=True))[name]
    async with asyncio.timeout(SOON_S):
        outcome = await gateway.door.call(rpc, [message.SerializeToString()])
    judge(outcome)
    assert outcome.kind == "INVALID_ARGUMENT"
