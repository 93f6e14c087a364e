"""What is remembered of sessions, and when the store is asked at all."""

import pytest

from quartet.common.v1.generation_pb2 import Completion, Usage
from quartet.router.v1.router_pb2 import Prompt
from services.kit.call import Call
from services.router.domain.catalogue import Catalogue
from services.router.domain.decision import Decider
from services.router.domain.routes import RouteTable
from services.router.domain.sessions import Sessions, count_cached
from services.router.domain.staying import Memory
from services.router.ports import StoreUnavailableError
from tests.unit.router.conftest import Ask, Decide

OPENAI, ANTHROPIC = "gpt-6-luna", "claude-haiku-5-5"
ACME = Call.root(timeout_s=20, tenant="acme")


class Shelf:
    """A cache that counts how often it is asked; `is_away` makes it unreachable."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], bytes] = {}
        self.asked = 0
        self.is_away = False

    async def get(self, tenant: str, name: str) -> bytes | None:
        self.asked += 1
        if self.is_away:
            raise StoreUnavailableError("away")
        return self.kept.get((tenant, name))

    async def put(self, tenant: str, name: str, data: bytes, *, ttl_s: int) -> None:
        self.asked += 1
        if self.is_away:
            raise StoreUnavailableError("away")
        assert ttl_s == 600
        self.kept[tenant, name] = data


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def times() -> list[float]:
    """The time by the clock, as its last item."""
    return [1_000.0]


@pytest.fixture
def sessions(shelf: Shelf, routes: RouteTable, times: list[float]) -> Sessions:
    return Sessions(shelf, routes, ttl_s=600, clock=lambda: times[-1])


async def note(sessions: Sessions, decider: Decider, prompt: Prompt, *, model_calls: int = 1) -> None:
    plan = decider.decide(prompt)
    counted = Usage(model_calls=model_calls, input_tokens=4_000)
    completion = Completion(model=plan.models[0].id, usage=counted)
    await sessions.note(prompt, plan, plan.decision, completion, ACME)


async def test_a_session_is_remembered_for_its_tenant_alone(
    sessions: Sessions, decider: Decide, ask: Ask, shelf: Shelf
) -> None:
    prompt = ask("hi", session="chat of Ada")
    assert await sessions.recall(prompt, ACME) is None
    await note(sessions, decider(), prompt)
    remembered = Memory(model=OPENAI, provider="openai", cached_tokens=4_000)
    assert await sessions.recall(prompt, ACME) == remembered
    assert await sessions.recall(prompt, Call.root(timeout_s=20, tenant="other")) is None
    assert await sessions.recall(ask("hi", session="chat of Bob"), ACME) is None
    assert all("Ada" not in name for _, name in shelf.kept), "what clients write stands in no key"


async def test_prompt_caches_are_taken_for_cold_after_five_minutes(
    sessions: Sessions, decider: Decide, ask: Ask, times: list[float]
) -> None:
    prompt = ask("hi", session="s")
    await note(sessions, decider(), prompt)
    times.append(1_301.0)
    assert await sessions.recall(prompt, ACME) == Memory(model=OPENAI, provider="openai", cached_tokens=0)


async def test_no_store_is_asked_without_a_session_or_without_a_choice(
    sessions: Sessions, decider: Decide, ask: Ask, shelf: Shelf
) -> None:
    for prompt in (ask("hi"), ask("hi", session="s", model=OPENAI), ask("hi", session="s", route="nowhere")):
        assert await sessions.recall(prompt, ACME) is None
    for prompt in (ask("hi"), ask("hi", session="s", model=OPENAI)):
        await note(sessions, decider(), prompt)
    assert shelf.asked == 0


async def test_an_answer_that_cost_no_call_or_came_from_passages_is_passed_over(
    sessions: Sessions, decider: Decide, ask: Ask, shelf: Shelf
) -> None:
    await note(sessions, decider(), ask("hi", session="s"), model_calls=0)
    plan = decider().decide(ask("hi", session="s"))
    local = Completion(model="local/extractive", usage=Usage(model_calls=1))
    await sessions.note(ask("hi", session="s"), plan, plan.decision, local, ACME)
    assert not shelf.kept


async def test_a_store_that_is_away_forgets_and_fails_nothing(
    sessions: Sessions, decider: Decide, ask: Ask, shelf: Shelf
) -> None:
    shelf.is_away = True
    await note(sessions, decider(), ask("hi", session="s"))
    assert await sessions.recall(ask("hi", session="s"), ACME) is None
    assert shelf.asked == 2


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"model": 1}', b'{"model": "a", "provider": "", "cached_tokens": "1", "at": 1.0}'],
)
async def test_what_cannot_be_read_is_nothing(
    sessions: Sessions, decider: Decide, ask: Ask, shelf: Shelf, data: bytes
) -> None:
    prompt = ask("hi", session="s")
    await note(sessions, decider(), prompt)
    shelf.kept = dict.fromkeys(shelf.kept, data)
    assert await sessions.recall(prompt, ACME) is None


def test_openai_caches_long_beginnings_unasked_and_anthropic_what_it_says(catalogue: Catalogue) -> None:
    openai, anthropic = catalogue.find(OPENAI), catalogue.find(ANTHROPIC)
    assert count_cached(openai, Usage(input_tokens=5_000)) == 5_000
    assert count_cached(openai, Usage(input_tokens=1_000)) == 0
    assert count_cached(anthropic, Usage(input_tokens=5_000)) == 0
    usage = Usage(input_tokens=5_000, cached_input_tokens=3_000, cache_write_tokens=1_500)
    assert count_cached(anthropic, usage) == 4_500
