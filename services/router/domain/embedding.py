"""Vectors from the embedding models, within the budget, with the router's own retries."""

from collections.abc import Mapping, Sequence

from quartet.common.v1.generation_pb2 import Budget, Usage
from quartet.router.v1.router_pb2 import EmbedResponse
from services.kit.accounts.account import Amount
from services.kit.call import Call
from services.kit.errors import InvalidArgument, QuartetError
from services.router.domain.account import Drawing
from services.router.domain.budget import Spending
from services.router.domain.catalogue import Model
from services.router.domain.features import CHARS_PER_TOKEN
from services.router.domain.prices import cost_of, estimate_cost
from services.router.domain.retrying import Retrying
from services.router.ports import EmbeddingProvider


class Embedding:
    """Calls embedding models.

    Args:
        providers: By the provider's name; every provider of an embedding model is in it.
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
        self, model: Model, texts: Sequence[str], dimension: int, budget: Budget, call: Call
    ) -> EmbedResponse:
        """The vectors of the texts; `dimension` 0 means the model's own.

        Raises:
            InvalidArgument: The model cannot make vectors of this length.
            ResourceExhausted: The budget does not cover the texts.
        """
        if dimension > model.dimension:
            raise InvalidArgument.field(
                "dimensions", f"{model.id} makes vectors of {model.dimension} at most"
            )
        attempts = await self._retrying.attempts((model,), call)
        spending = Spending(budget)
        estimate = -(-sum(map(len, texts)) // CHARS_PER_TOKEN)
        while True:
            spending.admit(model, input_tokens=estimate, output_tokens=0)
            deployed = attempts.deployment.model
            try:
                with attempts.deployment.begin() as trial:
                    await trial.admit(estimate, spending, call.remaining_s())
                    provider = self._providers[deployed.provider]
                    cost = estimate_cost(deployed.prices, input_tokens=estimate, output_tokens=0)
                    amount = Amount(tokens=estimate, cost_micro_usd=cost)
                    async with self._drawing.draw(budget.account_id, amount, call) as draw:
                        vectors = await provider.embed(deployed, texts, dimension, call)
                        usage = Usage(input_tokens=vectors.input_tokens, model_calls=spending.model_calls)
                        usage.cost_micro_usd = cost_of(usage, model.prices)
                        if draw is not None:
                            draw.settle(usage)
            except QuartetError as failure:
                await attempts.after(failure)
                continue
            return EmbedResponse(
                vectors=vectors.packed, dimension=vectors.dimension, model=model.id, usage=usage
            )
