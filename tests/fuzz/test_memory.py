"""What hostile messages leave behind: nothing."""

import gc
import json
import logging
import tracemalloc
from collections.abc import Sequence

from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]
from hypothesis import strategies as st

from services.kit.binding import Rpc
from tests.fuzz.bodies import DIALECTS
from tests.fuzz.conftest import Gateway
from tests.fuzz.effort import attempt_all, is_full
from tests.fuzz.messages import wires
from tests.fuzz.test_dialects import RPCS as DIALECT_RPCS
from tests.fuzz.test_rpcs import RPCS

log = logging.getLogger(__name__)

QUICK_ROUNDS, FULL_ROUNDS = 3, 20
MOST_BYTES_A_MESSAGE = 400
"""Of growth, on average: a call or a request that is not let go is more, and pytest's logs are less."""
A_CORPUS = 10
"""Messages of an rpc that are sent again and again."""


async def test_memory_is_flat_however_often_they_come(gateway: Gateway) -> None:
    """The same messages every round: what hypothesis itself remembers must not count."""
    corpus = [(rpc, sent) for rpc in RPCS for sent in await collect(gateway, rpc)]
    for _ in range(2):
        await send(gateway, corpus)
    rounds = FULL_ROUNDS if is_full() else QUICK_ROUNDS
    tracemalloc.start()
    try:
        before = traced()
        for _ in range(rounds):
            await send(gateway, corpus)
        grown = traced() - before
    finally:
        tracemalloc.stop()
    log.info("%d messages, %d times: %d bytes more", len(corpus), rounds, grown)
    assert grown / (rounds * len(corpus)) < MOST_BYTES_A_MESSAGE, f"{grown:,} bytes in {rounds} rounds"


async def collect(gateway: Gateway, rpc: Rpc) -> list[Sequence[bytes]]:
    found: list[Sequence[bytes]] = []

    async def keep(sent: Sequence[bytes]) -> None:
        if len(found) < A_CORPUS and sum(map(len, sent)) < 100_000:
            found.append(sent)

    await attempt_all(st.tuples(wires(rpc.request_type.DESCRIPTOR, gateway.known)), keep, over_sockets=True)
    return found


async def send(gateway: Gateway, corpus: Sequence[tuple[Rpc, Sequence[bytes]]]) -> None:
    for rpc, sent in corpus:
        await gateway.door.call(rpc, sent)
    for name, requests in DIALECTS.items():
        for request in requests:
            body = HttpBody(data=json.dumps(request).encode())
            await gateway.door.call(DIALECT_RPCS[name], [body.SerializeToString()])
    for neighbour in gateway.neighbours:
        neighbour.forget()


def traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
