import asyncio

import pytest

from quartet.common.v1 import message_pb2 as message
from quartet.common.v1.generation_pb2 import Completion
from quartet.router.v1.router_pb2 import GenerateRequest, GenerateResponse
from services.kit.call import Call
from services.kit.errors import AlreadyExists, ResourceExhausted, Unavailable
from services.router.domain.once import Once
from services.router.ports import Record, StoreUnavailableError


class MemoryAnswers:
    """A store of answers in memory, which can be out of reach."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], Record] = {}
        self.is_down = False

    async def claim(self, tenant: str, key: str, fingerprint: str, owner: str) -> Record | None:
        self._check()
        record = self.records.get((tenant, key))
        if record is None:
            self.records[tenant, key] = Record(fingerprint=fingerprint, answer=None)
        return record

    async def renew(self, tenant: str, key: str, owner: str) -> None:
        self._check()

    async def keep(self, tenant: str, key: str, fingerprint: str, answer: bytes) -> None:
        self._check()
        self.records[tenant, key] = Record(fingerprint=fingerprint, answer=answer)

    async def release(self, tenant: str, key: str, owner: str) -> None:
        self._check()
        self.records.pop((tenant, key), None)

    def _check(self) -> None:
        if self.is_down:
            raise StoreUnavailableError("down")


class Maker:
    """Makes answers slowly and counts them."""

    def __init__(self) -> None:
        self.count = 0
        self.failures = 0
        self.may_go_on = asyncio.Event()

    async def __call__(self, call: Call) -> GenerateResponse:
        self.count += 1
        await self.may_go_on.wait()
        if self.failures:
            self.failures -= 1
            raise Unavailable("not now")
        return GenerateResponse(completion=Completion(provider_response_id=str(self.count)))


def request(text: str = "hi", key: str = "k") -> GenerateRequest:
    asked = GenerateRequest()
    asked.prompt.messages.add(role=message.ROLE_USER).parts.add(text=text)
    asked.prompt.idempotency_key = key
    return asked


def a_call(tenant: str = "acme") -> Call:
    return Call.root(timeout_s=5, tenant=tenant)


@pytest.fixture
def store() -> MemoryAnswers:
    return MemoryAnswers()


@pytest.fixture
def once(store: MemoryAnswers) -> Once:
    return Once(store, max_detached=2, timeout_s=5)


async def test_duplicates_wait_for_the_first_and_get_its_answer(once: Once) -> None:
    make = Maker()
    tasks = [asyncio.create_task(once.answer(request(), make, a_call())) for _ in range(5)]
    await asyncio.sleep(0.01)
    make.may_go_on.set()
    answers = await asyncio.gather(*tasks)
    assert {answer.completion.provider_response_id for answer in answers} == {"1"}
    assert await once.answer(request(), make, a_call()) == answers[0]
    assert make.count == 1


async def test_an_answer_is_finished_though_its_caller_died(once: Once) -> None:
    make = Maker()
    task = asyncio.create_task(once.answer(request(), make, a_call()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    make.may_go_on.set()
    again = await once.answer(request(), make, a_call())
    assert (again.completion.provider_response_id, make.count) == ("1", 1)


async def test_a_key_for_another_request_is_refused(once: Once) -> None:
    make = Maker()
    make.may_go_on.set()
    await once.answer(request("one"), make, a_call())
    with pytest.raises(AlreadyExists) as caught:
        await once.answer(request("two"), make, a_call())
    assert caught.value.reason == "IDEMPOTENCY_KEY_REUSED"


async def test_an_answer_goes_to_no_key_that_may_use_other_models(once: Once) -> None:
    seen: list[tuple[str, ...] | None] = []

    async def make(call: Call) -> GenerateResponse:
        seen.append(call.models)
        return GenerateResponse()

    await once.answer(request(), make, a_call())
    narrow = Call.root(timeout_s=5, tenant="acme", models=("gpt-6-luna",))
    with pytest.raises(AlreadyExists):
        await once.answer(request(), make, narrow)
    await once.answer(request(key="another"), make, narrow)
    assert seen == [None, ("gpt-6-luna",)]


async def test_a_request_is_the_same_with_and_without_an_account(once: Once) -> None:
    make = Maker()
    make.may_go_on.set()
    await once.answer(request(), make, a_call())
    again = request()
    again.prompt.budget.account_id = "another"
    await once.answer(again, make, a_call())
    assert make.count == 1


async def test_tenants_share_no_keys(once: Once) -> None:
    make = Maker()
    make.may_go_on.set()
    for tenant in ("acme", "other"):
        await once.answer(request(tenant), make, a_call(tenant))
    assert make.count == 2


async def test_a_failure_is_not_kept(once: Once) -> None:
    make = Maker()
    make.failures = 1
    make.may_go_on.set()
    with pytest.raises(Unavailable):
        await once.answer(request(), make, a_call())
    assert (await once.answer(request(), make, a_call())).completion.provider_response_id == "2"


async def test_without_its_store_a_request_is_served_and_the_loss_is_logged_once(
    once: Once, store: MemoryAnswers, caplog: pytest.LogCaptureFixture
) -> None:
    make = Maker()
    make.may_go_on.set()
    store.is_down = True
    for _ in range(3):
        await once.answer(request(), make, a_call())
    assert make.count == 3
    assert sum("idempotency is off" in record.message for record in caplog.records) == 1


async def test_answers_under_way_are_bounded(once: Once) -> None:
    make = Maker()
    tasks = [asyncio.create_task(once.answer(request(key=str(n)), make, a_call())) for n in range(2)]
    await asyncio.sleep(0.01)
    with pytest.raises(ResourceExhausted) as caught:
        await once.answer(request(key="third"), make, a_call())
    assert caught.value.reason == "TOO_MANY_DETACHED"
    await once.close()
    assert all(
        isinstance(done, BaseException) for done in await asyncio.gather(*tasks, return_exceptions=True)
    )
