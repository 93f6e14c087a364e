"""What a request may still spend; asked before every attempt, told after it."""

from quartet.common.v1.generation_pb2 import Budget, Usage

from services.kit.errors import ResourceExhausted
from services.router.domain.catalogue import Model
from services.router.domain.prices import affordable_output_tokens


class Spending:
    """A request's use against its budget; a field of the budget that is absent bounds nothing, and zero allows nothing."""

    def __init__(self, budget: Budget) -> None:
        self._max_tokens = budget.max_tokens if budget.HasField("max_tokens") else None
        self._max_cost = budget.max_cost_micro_usd if budget.HasField("max_cost_micro_usd") else None
        self._max_calls = budget.max_model_calls if budget.HasField("max_model_calls") else None
        self._tokens = 0
        self._cost_micro_usd = 0
        self.model_calls = 0

    def admit(self, model: Model, *, input_tokens: int, output_tokens: int) -> int:
        """Counts a call to the model and returns how many of the output tokens it may write.

        Raises:
            ResourceExhausted: `BUDGET_EXHAUSTED`, naming the bound, when it does not even cover the input and one
                token, or is zero.
        """
        if self._max_calls is not None and self.model_calls >= self._max_calls:
            raise _exhausted("max_model_calls", self._max_calls, self.model_calls)
        allowed = output_tokens
        if self._max_tokens is not None:
            allowed = min(allowed, self._max_tokens - self._tokens - input_tokens)
            if _is_too_little(allowed, output_tokens) or self._max_tokens == 0:
                raise _exhausted("max_tokens", self._max_tokens, self._tokens + input_tokens)
        if self._max_cost is not None:
            left = self._max_cost - self._cost_micro_usd
            affordable = affordable_output_tokens(model.prices, input_tokens=input_tokens, micro_usd=left)
            if affordable is not None:
                allowed = min(allowed, affordable)
            if _is_too_little(allowed, output_tokens) or self._max_cost == 0:
                raise _exhausted("max_cost_micro_usd", self._max_cost, self._cost_micro_usd)
        self.model_calls += 1
        return allowed

    def book(self, usage: Usage) -> None:
        """Counts what a call used."""
        self._tokens += usage.input_tokens + usage.output_tokens
        self._cost_micro_usd += usage.cost_micro_usd


def _is_too_little(allowed: int, wanted: int) -> bool:
    """Embeddings want no output: for them nothing may be missing, for answers at least one token must be left."""
    return allowed < min(1, wanted)


def _exhausted(bound: str, limit: int, used: int) -> ResourceExhausted:
    message = f"the budget's {bound} of {limit} does not cover this call ({used} used or needed): raise it, or ask for less"
    return ResourceExhausted(
        message,
        reason="BUDGET_EXHAUSTED",
        metadata={"bound": bound, "limit": str(limit), "used": str(used)},
        quota_violations=[(f"budget/{bound}", f"limit {limit}, used or needed {used}")],
    )
