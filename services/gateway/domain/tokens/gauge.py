"""Whether a prompt fits: into what its key allows in one request, and into the window of its model."""

from collections.abc import Iterable, Sequence

from quartet.common.v1 import generation_pb2, message_pb2
from quartet.router.v1 import router_pb2
from services.gateway.domain.models import Models
from services.gateway.domain.targets import Target
from services.gateway.domain.tokens.contents import Contents
from services.gateway.domain.tokens.counter import Count, TokenCounter
from services.gateway.domain.tokens.counting import Counting, counting_of
from services.kit.errors import InvalidArgument

AUTO = "auto"


class TokenGauge:
    """Tells how many tokens prompts have, and refuses those with too many.

    A prompt that leaves the choice of the model to the router is counted with the newest vocabulary; which
    windows it fits is for the router to see.
    """

    def __init__(self, counter: TokenCounter, models: Models) -> None:
        self._counter = counter
        self._models = models

    async def count(
        self,
        target: Target,
        messages: Sequence[message_pb2.Message],
        spec: generation_pb2.GenerationSpec,
    ) -> Count:
        """All of it, by the vocabulary and the formulas of the target's model."""
        model = await self._find(target.model)
        return await self._counter.count(Contents(messages, spec, _counting(model, target.model)))

    async def gauge(self, target: Target, prompt: router_pb2.Prompt, limit: int) -> int:
        """The prompt's tokens; where the bytes prove that it fits, an estimate: a token every four bytes.

        Raises:
            InvalidArgument: `TOKEN_LIMIT_EXCEEDED` or `CONTEXT_WINDOW_EXCEEDED`, whichever is the smaller,
                with count, limit and model.
        """
        model = await self._find(target.model)
        window = model.context_window if model is not None else 0
        bound = min(limit, window) if window else limit
        contents = Contents(prompt.messages, prompt.spec, _counting(model, target.model))
        most, likely = contents.bound()
        if most <= bound:
            return likely
        count = await self._counter.count(contents, enough=bound)
        if count.tokens > bound:
            raise _too_long(count, bound, target.model or AUTO, is_window=0 < window == bound)
        return count.tokens

    async def gauge_texts(self, texts: Iterable[str], model: str, limit: int) -> None:
        """Refuses texts to embed that are too long together. Raises as `gauge`."""
        texts = list(texts)
        if sum(len(text.encode()) for text in texts) <= limit:
            return
        counting = _counting(await self._find(model), model)
        count = await self._counter.count_texts(texts, counting, enough=limit)
        if count.tokens > limit:
            raise _too_long(count, limit, model or AUTO, is_window=False)

    async def _find(self, name: str) -> router_pb2.Model | None:
        return await self._models.find(name) if name else None


def _counting(model: router_pb2.Model | None, name: str) -> Counting:
    return counting_of(name if model is None else model.id)


def _too_long(count: Count, limit: int, model: str, *, is_window: bool) -> InvalidArgument:
    number = f"{'' if count.exact else 'about '}{count.tokens:,}"
    whose = (
        f"the model takes {limit:,}: shorten it, or name a model with a larger window"
        if is_window
        else f"this key's limit is {limit:,} a request: shorten it, or have the limit raised"
    )
    return InvalidArgument(
        f"the input has {number} tokens for {model}, and {whose}",
        reason="CONTEXT_WINDOW_EXCEEDED" if is_window else "TOKEN_LIMIT_EXCEEDED",
        metadata={
            "count": str(count.tokens),
            "limit": str(limit),
            "model": model,
            "exact": str(count.exact).lower(),
        },
        field_violations=[("messages", f"at most {limit} tokens")],
    )
