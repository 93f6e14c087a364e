"""Texts are embedded once, in calls that fit, and their vectors are kept."""

import asyncio
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from quartet.common.v1.decision_pb2 import CacheOutcome
from quartet.router.v1.router_pb2 import EmbedRequest, EmbedResponse
from services.kit.call import Call
from services.kit.errors import QuartetError, ResourceExhausted
from services.router.domain import failures
from services.router.domain.cached_embedding import CachedEmbedding
from services.router.domain.catalogue import Batching, Catalogue, Model, Site, VectorCaching
from services.router.domain.embedding import Embedding
from services.router.domain.fleet import Fleet
from services.router.domain.retrying import Retrying, RetryPolicy
from services.router.ports import Batch, StoreUnavailableError, Vectors

DOWN = failures.unreachable("openai", "m", "gone")
REFUSED = failures.from_http_status(400, "too odd", provider="openai", model="m")


@dataclass(slots=True)
class Lengths:
    """A provider whose vectors are the lengths of texts; it reads a token for each character."""

    batches: list[list[str]] = field(default_factory=list)
    purposes: list[str] = field(default_factory=list)
    fails: Mapping[str, QuartetError] = field(default_factory=dict)
    """By a text of the batch that fails, each time."""
    width: int = 2
    pause: asyncio.Event | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    under_way: int = 0
    most_under_way: int = 0

    async def embed(self, batch: Batch, call: Call) -> Vectors:
        self.batches.append(list(batch.texts))
        self.purposes.append(batch.purpose.cache)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.asked.set()
        await (asyncio.sleep(0) if self.pause is None else self.pause.wait())
        self.under_way -= 1
        for text, failure in self.fails.items():
            if text in batch.texts:
                raise failure
        width = batch.dimension or self.width
        packed = b"".join(struct.pack("<f", len(text)) * width for text in batch.texts)
        return Vectors(packed=packed, dimension=width, input_tokens=sum(map(len, batch.texts)))


@dataclass(slots=True)
class Shelf:
    """A store in memory."""

    items: dict[tuple[str, str], bytes] = field(default_factory=dict)
    finds: int = 0
    is_away: bool = False
    ttls_s: set[int] = field(default_factory=set)

    async def find(self, tenant: str, names: Sequence[str]) -> Sequence[bytes | None]:
        self._check()
        self.finds += 1
        return [self.items.get((tenant, name)) for name in names]

    async def keep(
        self, tenant: str, items: Mapping[str, bytes], *, ttl_s: int, max_tenant_bytes: int
    ) -> None:
        self._check()
        self.ttls_s.add(ttl_s)
        self.items |= {(tenant, name): data for name, data in items.items()}

    def _check(self) -> None:
        if self.is_away:
            raise StoreUnavailableError("gone")


class World:
    """A model with its providers and its cache."""

    def __init__(self, catalogue: Catalogue, **changes: Any) -> None:
        settings: dict[str, Any] = {
            "vector_caching": VectorCaching(ttl_s=60, max_tenant_bytes=10**6),
            "dimension": 2,
        }
        small = catalogue.find("text-embedding-3-small")
        self.model: Model = replace(small, **settings | changes)
        self.provider, self.spare, self.shelf = Lengths(), Lengths(), Shelf()
        self.saved: list[int] = []
        providers = {"openai": self.provider, "spare": self.spare}
        retrying = Retrying(Fleet([self.model], providers), RetryPolicy(max_retries=1, base_delay_s=0.001))
        self.embedding = CachedEmbedding(
            Embedding(providers, retrying),
            self.shelf,
            lambda model, tokens, call: self.saved.append(tokens),
        )

    async def embed(
        self, *texts: str, tenant: str = "acme", model: Model | None = None, **fields: Any
    ) -> EmbedResponse:
        request = EmbedRequest(texts=texts, **fields)
        call = Call.root(timeout_s=5, tenant=tenant)
        return await self.embedding.embed(model or self.model, request, call)


def lengths(response: EmbedResponse) -> list[float]:
    """The first number of each vector."""
    width = response.dimension
    numbers = struct.unpack(f"<{len(response.vectors) // 4}f", response.vectors)
    return list(numbers[::width])


def outcome(response: EmbedResponse) -> str:
    return CacheOutcome.Name(response.cache).removeprefix("CACHE_OUTCOME_").lower()


async def test_equal_texts_of_a_request_are_embedded_once_and_the_order_stays(catalogue: Catalogue) -> None:
    world = World(catalogue)
    response = await world.embed("ccc", "a", "ccc", "bb", "a")
    assert lengths(response) == [3, 1, 3, 2, 1]
    assert world.provider.batches == [["ccc", "a", "bb"]]
    assert response.usage.input_tokens == 6
    assert (response.usage.model_calls, response.cached_texts) == (1, 0)


async def test_many_texts_go_in_calls_of_the_models_size_a_few_at_once(catalogue: Catalogue) -> None:
    world = World(catalogue, batching=Batching(texts=3, concurrent=2))
    texts = ["x" * number for number in range(1, 21)]
    response = await world.embed(*texts)
    assert lengths(response) == list(range(1, 21))
    assert list(map(len, world.provider.batches)) == [3] * 6 + [2]
    assert world.provider.most_under_way == 2
    assert response.usage.model_calls == 7
    # At 0.02 micro-USD a token each call is rounded up: six to one, that of 51 tokens to two.
    assert response.usage.cost_micro_usd == 8


async def test_a_vector_that_is_kept_is_not_made_again(catalogue: Catalogue) -> None:
    world = World(catalogue)
    first = await world.embed("aa", "b")
    second = await world.embed("b", "ccc", "aa", "b")
    third = await world.embed("ccc", "aa")
    assert [outcome(one) for one in (first, second, third)] == ["miss", "miss", "exact_hit"]
    assert lengths(second) == [1, 3, 2, 1]
    assert world.provider.batches == [["aa", "b"], ["ccc"]]
    assert world.provider.purposes == ["miss", "miss"]
    assert (second.usage.input_tokens, second.cached_texts) == (3, 3)
    assert (third.usage.input_tokens, third.usage.cost_micro_usd, third.usage.model_calls) == (0, 0, 0)
    # What was read once for the texts that were found.
    assert world.saved == [3, 5]
    assert world.shelf.finds == 3


async def test_tenant_model_and_length_have_vectors_of_their_own(catalogue: Catalogue) -> None:
    world = World(catalogue, dimension=4)
    world.provider.width = 4
    other = replace(world.model, upstream="another")
    for _ in range(2):
        await world.embed("a")
        await world.embed("a", tenant="other")
        await world.embed("a", dimensions=3)
        await world.embed("a", model=other)
        # The model's own length, named.
        await world.embed("a", dimensions=4)
    assert len(world.provider.batches) == len(world.shelf.items) == 4


@pytest.mark.parametrize(("said", "kept", "read"), [("no-store", 0, 0), ("no-cache", 1, 0)])
async def test_what_the_caller_says_of_the_cache_is_obeyed(
    catalogue: Catalogue, said: str, kept: int, read: int
) -> None:
    world = World(catalogue)
    response = await world.embed("a", cache_control=said)
    assert outcome(response) == ("miss" if kept else "bypass")
    assert (len(world.shelf.items), world.shelf.finds) == (kept, read)
    await world.embed("a")
    await world.embed("a", cache_control=said)
    assert len(world.provider.batches) == 2 + (not kept)


async def test_a_model_may_keep_none(catalogue: Catalogue) -> None:
    world = World(catalogue, vector_caching=None)
    for _ in range(2):
        assert outcome(await world.embed("a")) == "bypass"
    assert not world.shelf.items
    assert not world.saved


async def test_a_store_that_is_away_is_done_without(catalogue: Catalogue) -> None:
    world = World(catalogue)
    world.shelf.is_away = True
    for _ in range(2):
        assert lengths(await world.embed("aa")) == [2]
    assert len(world.provider.batches) == 2


async def test_a_vector_of_a_wrong_length_is_neither_kept_nor_given(catalogue: Catalogue) -> None:
    world = World(catalogue)
    await world.embed("aa")
    (place,) = world.shelf.items
    world.shelf.items[place] = world.shelf.items[place][:-4]
    assert lengths(await world.embed("aa")) == [2]
    assert len(world.provider.batches) == 2
    longer = World(catalogue, dimension=3)
    assert (await longer.embed("aa")).dimension == 2
    assert not longer.shelf.items


async def test_what_was_made_before_a_failure_need_not_be_made_again(catalogue: Catalogue) -> None:
    world = World(catalogue, batching=Batching(texts=1, concurrent=1))
    world.provider.fails = {"bad": REFUSED}
    with pytest.raises(QuartetError, match="too odd"):
        await world.embed("a", "bad", "never")
    assert world.provider.batches == [["a"], ["bad"]]
    world.provider.fails = {}
    response = await world.embed("a", "bad", "never")
    assert (response.cached_texts, lengths(response)) == (1, [1, 3, 5])


async def test_calls_under_way_beside_a_failure_are_awaited_and_kept(catalogue: Catalogue) -> None:
    world = World(catalogue, batching=Batching(texts=1, concurrent=3))
    world.provider.fails = {"bad": REFUSED}
    with pytest.raises(QuartetError):
        await world.embed("bad", "a", "bb", "never")
    assert world.provider.batches == [["bad"], ["a"], ["bb"]]
    assert len(world.shelf.items) == 2


async def test_each_call_has_its_own_retries_and_another_deployment_takes_over(catalogue: Catalogue) -> None:
    sites = (Site(provider="openai", upstream="m"), Site(provider="spare", upstream="m", weight=1e-9))
    world = World(catalogue, batching=Batching(texts=2), sites=sites)
    world.provider.fails = {"a": DOWN}
    response = await world.embed("a", "bb", "ccc")
    assert lengths(response) == [1, 2, 3]
    assert world.provider.batches == [["a", "bb"], ["ccc"]]
    assert world.spare.batches == [["a", "bb"]]
    # The failed attempt counts, too.
    assert response.usage.model_calls == 3


async def test_a_budget_must_cover_all_calls_before_the_first_is_made(catalogue: Catalogue) -> None:
    world = World(catalogue, batching=Batching(texts=1))
    for bound in ({"max_model_calls": 2}, {"max_tokens": 2}, {"max_cost_micro_usd": 0}):
        with pytest.raises(ResourceExhausted) as caught:
            await world.embed("aaaa", "bbbb", "cccc", budget=bound)
        assert caught.value.reason == "BUDGET_EXHAUSTED"
    assert not world.provider.batches
    generous = {"max_model_calls": 3, "max_tokens": 3, "max_cost_micro_usd": 10}
    assert (await world.embed("aaaa", "bbbb", "cccc", budget=generous)).usage.model_calls == 3
    # What is kept needs no budget.
    assert (await world.embed("aaaa", budget={"max_model_calls": 0})).cached_texts == 1


async def test_who_leaves_takes_the_calls_along(catalogue: Catalogue) -> None:
    world = World(catalogue, batching=Batching(texts=1, concurrent=2))
    asked: list[str] = []
    all_asked = asyncio.Event()
    gone: list[str] = []

    class Pending:
        async def embed(self, batch: Batch, call: Call) -> Vectors:
            asked.extend(batch.texts)
            if len(asked) == 2:
                all_asked.set()
            try:
                await asyncio.sleep(30)
            finally:
                gone.extend(batch.texts)
            raise AssertionError("it is given up before")

    providers = {"openai": Pending()}
    embedding = Embedding(providers, Retrying(Fleet([world.model], providers), RetryPolicy()))
    cached = CachedEmbedding(embedding, world.shelf, lambda model, tokens, call: None)
    request = EmbedRequest(texts=["a", "b", "c"])
    task = asyncio.create_task(cached.embed(world.model, request, Call.root(timeout_s=60)))
    await all_asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(gone) == ["a", "b"]


async def test_requests_at_one_moment_share_the_vectors_of_their_common_texts(catalogue: Catalogue) -> None:
    world = World(catalogue)
    first, second, third = await asyncio.gather(
        world.embed("a", "bb"), world.embed("bb", "ccc"), world.embed("bb", "a")
    )
    assert [lengths(one) for one in (first, second, third)] == [[1, 2], [2, 3], [2, 1]]
    assert world.provider.batches == [["a", "bb"], ["ccc"]]
    assert [outcome(one) for one in (first, second, third)] == ["miss", "miss", "coalesced"]
    assert (second.usage.input_tokens, second.cached_texts) == (3, 1)
    assert (third.usage.cost_micro_usd, third.usage.model_calls, third.cached_texts) == (0, 0, 2)
    assert sorted(world.saved) == [2, 3]


async def test_fifty_requests_for_one_text_are_one_call(catalogue: Catalogue) -> None:
    world = World(catalogue)
    responses = await asyncio.gather(*(world.embed("text") for _ in range(50)))
    assert {response.vectors for response in responses} == {responses[0].vectors}
    assert world.provider.batches == [["text"]]


@pytest.mark.parametrize("fields", [{"tenant": "other"}, {"cache_control": "no-store"}, {"dimensions": 1}])
async def test_what_must_not_be_shared_is_not(catalogue: Catalogue, fields: dict[str, Any]) -> None:
    world = World(catalogue)
    await asyncio.gather(world.embed("a"), world.embed("a", **fields))
    assert len(world.provider.batches) == 2


async def test_who_waits_for_a_vector_that_fails_makes_it_itself(catalogue: Catalogue) -> None:
    world = World(catalogue)
    world.provider.fails = {"bad": REFUSED}
    first, second = await asyncio.gather(
        world.embed("a", "bad"), world.embed("a", "bb"), return_exceptions=True
    )
    assert isinstance(first, QuartetError)
    assert isinstance(second, EmbedResponse)
    assert world.provider.batches == [["a", "bad"], ["bb"], ["a"]]
    assert (lengths(second), second.usage.model_calls, second.cached_texts) == ([1, 2], 2, 0)


async def test_who_leaves_does_not_cut_those_who_wait(catalogue: Catalogue) -> None:
    world = World(catalogue)
    world.provider.pause = asyncio.Event()
    leaver = asyncio.create_task(world.embed("a"))
    await world.provider.asked.wait()
    stayer = asyncio.create_task(world.embed("a"))
    await asyncio.sleep(0.05)
    assert world.provider.batches == [["a"]]
    leaver.cancel()
    world.provider.pause.set()
    assert lengths(await stayer) == [1]
    assert world.provider.batches == [["a"], ["a"]]
