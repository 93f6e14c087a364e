"""Carries a plan out.

Budget, adaptation, attempts, and the next model when one fails before its first word.
"""

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from quartet.common.v1.decision_pb2 import Decision
from quartet.common.v1.generation_pb2 import Completion, Delta
from quartet.router.v1.router_pb2 import Prompt
from services.kit import names
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.router.domain.adaptation import ModelRequest, adapt
from services.router.domain.budget import Spending
from services.router.domain.catalogue import Model
from services.router.domain.decision import Plan, revise
from services.router.domain.fleet import Deployment, Trial
from services.router.domain.ledger import Purpose, name_outcome
from services.router.domain.lengths import OutputLengths
from services.router.domain.retrying import Retrying
from services.router.ports import Accepted, ModelProvider, ProviderEvent

log = logging.getLogger(__name__)


class Answering:
    """Gets answers from the models of a plan.

    Args:
        providers: By the provider's name; every provider of a plan's models is in it.
        lengths: Is told how long answers were.
    """

    def __init__(
        self,
        providers: Mapping[str, ModelProvider],
        retrying: Retrying,
        lengths: OutputLengths | None = None,
    ) -> None:
        self._providers = providers
        self._retrying = retrying
        self._lengths = lengths or OutputLengths()

    async def answer(self, prompt: Prompt, plan: Plan, call: Call) -> tuple[Decision, Completion]:
        """The answer, and the decision as it turned out.

        Raises:
            QuartetError: Of `domain.failures`, or BUDGET_EXHAUSTED.
        """
        attempts = await self._retrying.attempts(plan.models, call, balance=plan.route.balance)
        spending = Spending(prompt.budget)
        while True:
            request = _prepare(prompt, plan, attempts.deployment.model, spending)
            provider = self._providers[request.model.provider]
            try:
                with attempts.deployment.begin() as trial:
                    await self._admit(trial, request, spending, call)
                    completion = await provider.generate(request, call)
                    trial.note_whole()
                    trial.note_usage(_tokens(completion))
            except QuartetError as failure:
                await attempts.after(failure)
                continue
            self._finish(completion, request, spending)
            return revise(plan.decision, request.model, attempts.failed), completion

    async def stream(
        self, prompt: Prompt, plan: Plan, call: Call
    ) -> AsyncGenerator[Decision | Delta | Completion]:
        """The decision once a provider has accepted, then deltas, last the completion without its message.

        Before the first delta a failure moves on silently; after it, it is raised.
        """
        attempts = await self._retrying.attempts(plan.models, call, balance=plan.route.balance)
        spending = Spending(prompt.budget)
        decided = False
        while True:
            request = _prepare(prompt, plan, attempts.deployment.model, spending)
            begun = False
            try:
                async with aclosing(self._events(request, attempts.deployment, spending, call)) as events:
                    async for event in events:
                        if not decided:
                            decided = True
                            if request.adapted:
                                call.response_headers[names.ADAPTED_HEADER] = ", ".join(request.adapted)
                            yield revise(plan.decision, request.model, attempts.failed)
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

    async def _events(
        self, request: ModelRequest, deployment: Deployment, spending: Spending, call: Call
    ) -> AsyncGenerator[ProviderEvent]:
        """What the deployment says, while its breaker listens."""
        begun = False
        with deployment.begin() as trial:
            await self._admit(trial, request, spending, call)
            async with aclosing(self._providers[request.model.provider].stream(request, call)) as events:
                async for event in events:
                    if not begun and not isinstance(event, Accepted):
                        begun = True
                        trial.note_first_word()
                    if isinstance(event, Completion):
                        trial.note_usage(_tokens(event))
                    yield event

    async def _admit(self, trial: Trial, request: ModelRequest, spending: Spending, call: Call) -> None:
        tokens = request.purpose.input_tokens + request.spec.max_output_tokens
        try:
            await trial.admit(tokens, call.remaining_s())
        except QuartetError:
            spending.take_back()
            raise


def _tokens(completion: Completion) -> int:
    return completion.usage.input_tokens + completion.usage.output_tokens


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
