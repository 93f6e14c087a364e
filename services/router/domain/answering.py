"""Carries a plan out.

Budget, adaptation, attempts, and the next model when one fails before its first word.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from quartet.common.v1.decision_pb2 import Decision
from quartet.common.v1.generation_pb2 import Completion, Delta
from quartet.router.v1.router_pb2 import Prompt
from services.kit import names
from services.kit.call import Call
from services.kit.errors import QuartetError, Unavailable
from services.router.domain import failures
from services.router.domain.adaptation import ModelRequest, adapt
from services.router.domain.budget import Spending
from services.router.domain.catalogue import Model
from services.router.domain.decision import Plan, revise
from services.router.domain.ledger import Purpose, name_outcome
from services.router.domain.lengths import OutputLengths
from services.router.ports import Accepted, ModelProvider, ProviderEvent

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How failed attempts are repeated.

    Attributes:
        max_retries: Further attempts at one model.
        base_delay_s: Mean pause before the first of them; it doubles with each.
        max_delay_s: Longest pause, also where the provider asks for more: then the next model takes over.
        random: A number from 0 to 1, for the jitter.
    """

    max_retries: int = 2
    base_delay_s: float = 0.2
    max_delay_s: float = 5.0
    random: Callable[[], float] = random.random

    def delay_s(self, retry: int, asked_s: float | None) -> float | None:
        """The pause before a retry (0 is the first); None when the provider asks for too long a one."""
        if asked_s is not None:
            return asked_s if asked_s <= self.max_delay_s else None
        return min(self.max_delay_s, self.base_delay_s * (1 << retry) * (0.5 + self.random()))


class Attempts:
    """Which model is tried, and which next when it fails."""

    def __init__(self, models: Sequence[Model], policy: RetryPolicy, call: Call) -> None:
        self._models = iter(models)
        self._policy = policy
        self._call = call
        self._retries = 0
        self.model: Model = next(self._models)
        self.failed: dict[str, str] = {}
        self._reasons: set[str] = set()

    async def after(self, failure: QuartetError) -> None:
        """Returns when `model` is to be tried, after a pause where it is the same.

        Else raises the failure.
        """
        model = self.model
        self.failed[model.id] = failure.message
        self._reasons.add(failure.reason)
        log.warning(
            "model call failed", extra={"model": model.id, "reason": failure.reason, "retry": self._retries}
        )
        if failures.may_retry(failure) and self._retries < self._policy.max_retries:
            delay_s = self._policy.delay_s(self._retries, failure.retry_after_s)
            if delay_s is not None and delay_s < self._call.remaining_s():
                self._retries += 1
                await asyncio.sleep(delay_s)
                return
        following = next(self._models, None) if failures.may_pass_on(failure) else None
        if following is None:
            raise self._sum_up(failure)
        self.model, self._retries = following, 0

    def _sum_up(self, failure: QuartetError) -> QuartetError:
        """The failure itself when it speaks for all of them."""
        if len(self._reasons) == 1 or not failures.may_pass_on(failure):
            return failure
        message = "; ".join(f"{model}: {said}" for model, said in self.failed.items())
        return Unavailable(
            f"every model of the route failed: {message}",
            reason="ALL_CANDIDATES_FAILED",
            metadata={"models": ",".join(self.failed)},
            retry_after_s=failure.retry_after_s,
        )


class Answering:
    """Gets answers from the models of a plan.

    Args:
        providers: By the provider's name; every provider of a plan's models is in it.
        lengths: Is told how long answers were.
    """

    def __init__(
        self,
        providers: Mapping[str, ModelProvider],
        policy: RetryPolicy,
        lengths: OutputLengths | None = None,
    ) -> None:
        self._providers = providers
        self._policy = policy
        self._lengths = lengths or OutputLengths()

    async def answer(self, prompt: Prompt, plan: Plan, call: Call) -> tuple[Decision, Completion]:
        """The answer, and the decision as it turned out.

        Raises:
            QuartetError: Of `domain.failures`, or BUDGET_EXHAUSTED.
        """
        attempts = Attempts(plan.models, self._policy, call)
        spending = Spending(prompt.budget)
        while True:
            request = _prepare(prompt, plan, attempts.model, spending)
            try:
                completion = await self._providers[attempts.model.provider].generate(request, call)
            except QuartetError as failure:
                await attempts.after(failure)
                continue
            self._finish(completion, request, spending)
            return revise(plan.decision, attempts.model, attempts.failed), completion

    async def stream(
        self, prompt: Prompt, plan: Plan, call: Call
    ) -> AsyncGenerator[Decision | Delta | Completion]:
        """The decision once a provider has accepted, then deltas, last the completion without its message.

        Before the first delta a failure moves on silently; after it, it is raised.
        """
        attempts = Attempts(plan.models, self._policy, call)
        spending = Spending(prompt.budget)
        decided = False
        while True:
            request = _prepare(prompt, plan, attempts.model, spending)
            begun = False
            try:
                async with aclosing(self._events(request, call)) as events:
                    async for event in events:
                        if not decided:
                            decided = True
                            if request.adapted:
                                call.response_headers[names.ADAPTED_HEADER] = ", ".join(request.adapted)
                            yield revise(plan.decision, attempts.model, attempts.failed)
                        if isinstance(event, Accepted):
                            continue
                        begun = True
                        if isinstance(event, Completion):
                            self._finish(event, request, spending)
                        yield event
                return
            except QuartetError as failure:
                if begun:
                    raise
                await attempts.after(failure)

    def _finish(self, completion: Completion, request: ModelRequest, spending: Spending) -> None:
        completion.model = request.model.id
        completion.adapted.extend(request.adapted)
        completion.usage.model_calls = spending.model_calls
        self._lengths.note(request.purpose.route, request.model.id, completion.usage.output_tokens)

    def _events(self, request: ModelRequest, call: Call) -> AsyncGenerator[ProviderEvent]:
        return self._providers[request.model.provider].stream(request, call)


def _prepare(prompt: Prompt, plan: Plan, model: Model, spending: Spending) -> ModelRequest:
    limit = min(plan.decision.max_output_tokens, model.max_output_tokens)
    allowed = spending.admit(model, input_tokens=plan.input_tokens, output_tokens=limit)
    purpose = Purpose(
        route=plan.decision.route,
        run_id=prompt.run_id,
        cache=name_outcome(plan.decision.cache),
        input_tokens=plan.input_tokens,
    )
    request = adapt(prompt, model, plan.route, output_tokens=allowed, purpose=purpose)
    if request.adapted:
        log.info("request adapted", extra={"model": model.id, "adapted": list(request.adapted)})
    return request
