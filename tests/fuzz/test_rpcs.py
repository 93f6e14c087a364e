"""Whatever message comes in, an rpc answers it, or refuses it as the client's own fault."""

import logging
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import strategies as st

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
