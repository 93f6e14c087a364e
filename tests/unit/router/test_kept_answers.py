"""Answers on their way to the store."""

import asyncio

from quartet.common.v1.generation_pb2 import FINISH_REASON_STOP, Completion
from quartet.common.v1.message_pb2 import ROLE_ASSISTANT, Message, Part
from services.kit.call import Call
from services.router.domain.kept_answers import KeptAnswers, Request
from services.router.domain.recording import Recording
from services.router.ports import StoreUnavailableError
from tests.unit.router.conftest import Ask, Decide


class SlowStore:
    """Has nothing until it is told to go on, and then fails."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()

    async def get(self, tenant: str, name: str) -> bytes | None:
        del tenant, name
        return None

    async def put(self, tenant: str, name: str, data: bytes, *, ttl_s: int) -> None:
        del tenant, name, data, ttl_s
        self.asked.set()
        await self.go_on.wait()
        raise StoreUnavailableError("away")


def admitted(kept: KeptAnswers, decider: Decide, ask: Ask) -> Request:
    prompt = ask("What is the notice period?", model="gpt-6-luna")
    prompt.spec.temperature = 0
    request = kept.admit(prompt, decider().decide(prompt), Call.root(timeout_s=60, tenant="acme"))
    assert request is not None
    return request


async def test_an_answer_is_found_while_it_is_being_written_and_not_where_that_failed(
    decider: Decide, ask: Ask
) -> None:
    store = SlowStore()
    kept = KeptAnswers(store, None)
    request = admitted(kept, decider, ask)
    completion = Completion(
        model=request.plan.due,
        finish_reason=FINISH_REASON_STOP,
        message=Message(role=ROLE_ASSISTANT, parts=[Part(text="Three months.")]),
    )
    keeping = asyncio.create_task(kept.keep(request, Recording.of_answer(completion)))
    await store.asked.wait()
    found = await kept.recall(request)
    assert found is not None
    assert found.completion == completion
    found.completion.usage.cost_micro_usd = 1
    again = await kept.recall(request)
    assert again is not None
    assert again.completion == completion
    store.go_on.set()
    await keeping
    assert await kept.recall(request) is None
