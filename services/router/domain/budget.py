"""What a request may spend; asked before every attempt."""

from collections.abc import Iterable

from quartet.common.v1.generation_pb2 import Budget, GenerationSpec, Usage
from services.kit.errors import ResourceExhausted
from services.router.domain.adaptation import read_object
from services.router.domain.catalogue import Model
from services.router.domain.prices import TIERS, Tier, affordable_output_tokens, cost_of


class Spending:
    """A request's attempts against its budget.

    A field of the budget that is absent bounds nothing, and zero allows nothing. Attempts that failed are
    counted as calls; what they cost is not known.

    """

    def __init__(self, budget: Budget) -> None:
        self._max_tokens = budget.max_tokens if budget.HasField("max_tokens") else None
        self._max_cost = budget.max_cost_micro_usd if budget.HasField("max_cost_micro_usd") else None
        self._max_calls = budget.max_model_calls if budget.HasField("max_model_calls") else None
        self.model_calls = 0

    def admit(self, model: Model, *, input_tokens: int, output_tokens: int, service_tier: str = "") -> int:
        """Counts a call to the model and returns how many of the output tokens it may write.

        `service_tier` is that of `expected_tier`.

        Raises:
            ResourceExhausted: `BUDGET_EXHAUSTED`, naming the bound, when it is zero, or does not even cover
                the input and one token.
        """
        if self._max_calls is not None and self.model_calls >= self._max_calls:
            raise _exhausted("max_model_calls", self._max_calls)
        allowed = output_tokens
        if self._max_tokens is not None:
            allowed = min(allowed, self._max_tokens - input_tokens)
            if self._max_tokens == 0 or _is_too_little(allowed, output_tokens):
                raise _exhausted("max_tokens", self._max_tokens)
        if self._max_cost is not None:
            affordable = affordable_output_tokens(
                model.prices,
                input_tokens=input_tokens,
                micro_usd=self._max_cost,
                service_tier=service_tier,
            )
            if affordable is not None:
                allowed = min(allowed, affordable)
            if self._max_cost == 0 or _is_too_little(allowed, output_tokens):
                raise _exhausted("max_cost_micro_usd", self._max_cost)
        self.model_calls += 1
        return allowed

    def charge(self, usage: Usage) -> None:
        """Takes what a call used off the budget, where another one follows it."""
        if self._max_tokens is not None:
            self._max_tokens = max(0, self._max_tokens - usage.input_tokens - usage.output_tokens)
        if self._max_cost is not None:
            self._max_cost = max(0, self._max_cost - usage.cost_micro_usd)

    def take_back(self) -> None:
        """Tells that the call admitted last was not made."""
        self.model_calls -= 1


def expected_tier(spec: GenerationSpec) -> str:
    """The tier at whose prices a call is reckoned before its answer tells that at which it was served.

    It is what the request asks for where that is dearer, so that its budget holds; else the usual one, empty.

    Raises:
        InvalidArgument: `extra_json` is no JSON object.
    """
    if '"service_tier"' not in spec.extra_json:
        return ""
    asked = read_object(spec.extra_json, "spec.extra_json").get("service_tier")
    return asked if isinstance(asked, str) and TIERS.get(asked) is Tier.PRIORITY else ""


def covers(
    budget: Budget, models: Iterable[Model], *, input_tokens: int, output_tokens: int, service_tier: str = ""
) -> bool:
    """Whether the budget cuts no answer short, though all the models were asked, one after the other."""
    if not any(budget.HasField(bound) for bound in ("max_tokens", "max_cost_micro_usd", "max_model_calls")):
        return True
    spending = Spending(budget)
    for model in models:
        most = min(output_tokens, model.max_output_tokens)
        try:
            allowed = spending.admit(
                model, input_tokens=input_tokens, output_tokens=most, service_tier=service_tier
            )
        except ResourceExhausted:
            return False
        if allowed < most:
            return False
        used = Usage(input_tokens=input_tokens, output_tokens=most, service_tier=service_tier)
        used.cost_micro_usd = cost_of(used, model.prices)
        spending.charge(used)
    return True


def _is_too_little(allowed: int, wanted: int) -> bool:
    """For embeddings, which want no output, nothing may be missing; for answers a token must be left."""
    return allowed < min(1, wanted)


def _exhausted(bound: str, limit: int) -> ResourceExhausted:
    return ResourceExhausted(
        f"the budget's {bound} of {limit} does not cover this call: raise it, or ask for less",
        reason="BUDGET_EXHAUSTED",
        metadata={"bound": bound, "limit": str(limit)},
        quota_violations=[(f"budget/{bound}", f"{limit} do not cover this call")],
    )
