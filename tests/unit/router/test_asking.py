import asyncio
import time
from typing import TYPE_CHECKING, cast

import pytest

from quartet.common.v1.message_pb2 import ROLE_USER, Message, Part
from quartet.router.v1.router_pb2 import Prompt
from services.kit.call import Call
from services.router.domain.asking import Asker
from services.router.domain.breaker import Breaker, BreakerPolicy
from services.router.domain.catalogue import Catalogue
from services.router.domain.labelling import Labelling

if TYPE_CHECKING:
    from services.router.domain.answering import Answering

PROMPT = Prompt(messages=[Message(role=ROLE_USER, parts=[Part(text="Hm.")])])


class Silence:
    """Answers that never come."""

    async def answer(self, *_: object) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("patience_s", "time_s", "stops"), [(0.01, 60, True), (600, 0.05, False)], ids=["its own", "the caller's"]
)
async def test_a_question_stops_being_asked_when_its_own_time_runs_out_and_not_a_callers(
    catalogue: Catalogue, patience_s: float, time_s: float, stops: bool
) -> None:
    model = catalogue.find("gpt-6-luna")
    labelling = Labelling(model=model.id, labels=(("technical", ""),), below=1.0, timeout_s=patience_s)
    breaker = Breaker(BreakerPolicy(consecutive_failures=1), time.monotonic, lambda _: None)
    asker = Asker(labelling, lambda _: model, cast("Answering", Silence()), breaker)
    call = Call.root(timeout_s=time_s, tenant="acme")
    assert await asker.ask(model, PROMPT, "Hm.", "complex", call) == ("", None)
    assert (asker.find_model(PROMPT) is None) is stops
