"""Vectors from the embedding models, within the budget, with the router's own retries."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from quartet.common.v1.generation_pb2 import Budget, Usage
from services.kit.accounts.account import Amount
from services.kit.call import Call
from services.kit.errors import InvalidArgument, QuartetError
from services.router.domain.account import Drawing
from services.router.domain.batching import estimate_tokens, share_out, split
from services.router.domain.budget import Spending
from services.router.domain.catalogue import Model
from services.router.domain.fleet import Deployment
from services.router.domain.ledger import Purpose
from services.router.domain.prices import cost_of, estimate_cost
from services.router.domain.retrying import Retrying
from services.router.ports import Batch, EmbeddingProvider, Vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """A text's vector, packed little-endian float32, and its share of the tokens that the model read."""

    packed: bytes
    tokens: int


@dataclass(slots=True, kw_only=True)
class Embedded:
    """What came of texts; where some failed, why, and the vectors of the others."""

    vectors: dict[str, Vector] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    failure: QuartetError | None = None

    def add(self, more: "Embedded") -> None:
        """Takes what came of further texts."""
        self.vectors |= more.vectors
        self.usage.input_tokens += more.usage.input_tokens
        self.usage.cost_micro_usd += more.usage.cost_micro_usd
        self.usage.model_calls += more.usage.model_calls
        self.failure = self.failure or more.failure


class Embedding:
    """Calls embedding models.

    Args:
        providers: By the provider's name; every provider of an embedding model is in it.
        drawing: Takes what an attempt may use from the request's account.
    """

    def __init__(
        self,
        providers: Mapping[str, EmbeddingProvider],
        retrying: Retrying,
        drawing: Drawing | None = None,
    ) -> None:
        self._providers = providers
        self._retrying = retrying
        self._drawing = drawing or Drawing(None)

    async def embed(
        self, model: Model, texts: Sequence[str], dimension: int, budget: Budget, call: Call, *, cache: str
    ) -> Embedded:
        """The vectors of different texts, in as many calls as the model needs, some of them at once.

        After a failure no further call is begun, and those under way are awaited: what they cost is spent.

        Args:
            model: Who embeds.
            texts: At least one.
            dimension: 0 means the model's own.
            budget: Must cover all calls.
            call: Bounds the time.
            cache: What the cache said before, for the ledger.

        Raises:
            InvalidArgument: The model cannot make vectors of this length.
            ResourceExhausted: The budget does not cover the texts; nothing was spent then.
        """
        if dimension > model.dimension:
            raise InvalidArgument.field(
                "dimensions", f"{model.id} makes vectors of {model.dimension} at most"
            )
        batches = split(texts, model.batching)
        work = _Work(model, dimension, budget, call, cache, Spending(budget), estimate_tokens(texts))
        for _ in batches:
            work.admit()
        waiting = iter(batches)
        if len(batches) == 1:
            await self._embed_all(waiting, work)
        else:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(model.batching.concurrent, len(batches))):
                    group.create_task(self._embed_all(waiting, work))
        work.done.usage.model_calls = work.spending.model_calls
        return work.done

    async def _embed_all(self, batches: Iterator[list[str]], work: "_Work") -> None:
        """Embeds batches until none is left or one fails; several of these share them."""
        for texts in batches:
            try:
                work.add(texts, await self._embed(texts, work))
            except QuartetError as failure:
                work.done.failure = work.done.failure or failure
            if work.done.failure is not None:
                return

    async def _embed(self, texts: Sequence[str], work: "_Work") -> Vectors:
        attempts = await self._retrying.attempts((work.model,), work.call)
        while True:
            try:
                return await self._attempt(attempts.deployment, texts, work)
            except QuartetError as failure:
                await attempts.after(failure)
            work.admit()

    async def _attempt(self, deployment: Deployment, texts: Sequence[str], work: "_Work") -> Vectors:
        model, tokens = deployment.model, estimate_tokens(texts)
        with deployment.begin() as trial:
            await trial.admit(tokens, work.spending, work.call.remaining_s())
            cost = estimate_cost(model.prices, input_tokens=tokens, output_tokens=0)
            amount = Amount(tokens=tokens, cost_micro_usd=cost)
            async with self._drawing.draw(work.account_id, amount, work.call) as draw:
                purpose = Purpose(cache=work.cache, input_tokens=tokens, draw=draw)
                batch = Batch(model=model, texts=texts, dimension=work.dimension, purpose=purpose)
                vectors = await self._providers[model.provider].embed(batch, work.call)
            trial.note_whole()
            trial.note_usage(vectors.input_tokens)
            return vectors


class _Work:
    """One request while its texts are being embedded."""

    def __init__(
        self,
        model: Model,
        dimension: int,
        budget: Budget,
        call: Call,
        cache: str,
        spending: Spending,
        tokens: int,
    ) -> None:
        self.model = model
        self.dimension = dimension
        self.account_id = budget.account_id
        self.call = call
        self.cache = cache
        self.spending = spending
        self.done = Embedded()
        self._tokens = tokens

    def admit(self) -> None:
        """Counts a call, of which all texts together must be within the budget."""
        self.spending.admit(self.model, input_tokens=self._tokens, output_tokens=0)

    def add(self, texts: Sequence[str], vectors: Vectors) -> None:
        """Takes a batch's vectors and their cost: each call's is rounded up by itself, as in the ledger."""
        size, done = 4 * vectors.dimension, self.done
        for place, (text, tokens) in enumerate(
            zip(texts, share_out(vectors.input_tokens, texts), strict=True)
        ):
            packed = vectors.packed[place * size : (place + 1) * size]
            done.vectors[text] = Vector(packed=packed, tokens=tokens)
        used = Usage(input_tokens=vectors.input_tokens)
        done.usage.input_tokens += used.input_tokens
        done.usage.cost_micro_usd += cost_of(used, self.model.prices)
