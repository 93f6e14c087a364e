"""Carries a plan out.

Budget, adaptation, attempts, and the next model when one fails before its first word.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from quartet.common.v1.decision_pb2 import Decision
from quartet.common.v1.generation_pb2 import Completion, Delta
from quartet.router.v1.router_pb2 import Prompt
from services.kit import names
from services.kit.accounts.account import Amount
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.router.domain.account import Drawing
from services.router.domain.adaptation import ModelRequest, adapt
from services.router.domain.budget import Spending, expected_tier
from services.router.domain.fleet import Deployment, Trial
from services.router.domain.hedging import Leg, race
from services.router.domain.latency import Hedge
from services.router.domain.ledger import Purpose, name_outcome
from services.router.domain.lengths import OutputLengths
from services.router.domain.plan import Plan, revise
from services.router.domain.prices import estimate_cost
from services.router.domain.retrying import Attempts, Retrying
from services.router.ports import Accepted, ModelProvider

T = TypeVar("T")

log = logging.getLogger(__name__)


class Answering:
    """Gets answers from the models of a plan.

    Args:
        providers: By the provider's name; every provider of a plan's models is in it.
        lengths: Is told how long answers were.
        drawing: Takes what an attempt may use from the request's account.
    """

    def __init__(
        self,
        providers: Mapping[str, ModelProvider],
        retrying: Retrying,
        lengths: OutputLengths | None = None,
        drawing: Drawing | None = None,
    ) -> None:
        self._providers = providers
        self._retrying = retrying
        self._lengths = lengths or OutputLengths()
        self._drawing = drawing or Drawing(None)

    async def answer(
        self, prompt: Prompt, plan: Plan, call: Call, spending: Spending | None = None
    ) -> tuple[Decision, Completion]:
        """The answer, and the decision as it turned out.

        Args:
            prompt: What is asked.
            plan: Who may answer.
            call: Bounds the time.
            spending: Of the whole request, where this is only a part of it.

        Raises:
            QuartetError: Of `domain.failures`, or BUDGET_EXHAUSTED.
        """
        attempts = await self._retrying.attempts(
            plan.models, call, balance=plan.route.balance, site=plan.site
        )
        work = _Work(prompt, plan, call, attempts, spending or Spending(prompt.budget))
        while True:
            request = work.prepare(attempts.deployment)
            try:
                if plan.route.hedge is None:
                    completion = await self._generate(request, attempts.deployment, work)
                else:
                    request, completion = await self._generate_hedged(request, plan.route.hedge, work)
            except QuartetError as failure:
                await attempts.after(failure)
                continue
            self._finish(completion, request, work.spending)
            return revise(plan.decision, request.model, attempts.failed), completion

    async def stream(
        self, prompt: Prompt, plan: Plan, call: Call, spending: Spending | None = None
    ) -> AsyncGenerator[Decision | Delta | Completion]:
        """The decision once a provider has accepted, then deltas, last the completion without its message.

        Before the first delta a failure moves on silently; after it, it is raised.
        """
        attempts = await self._retrying.attempts(
            plan.models, call, balance=plan.route.balance, site=plan.site
        )
        work = _Work(prompt, plan, call, attempts, spending or Spending(prompt.budget))
        decided = False
        while True:
            request = work.prepare(attempts.deployment)
            hedge = plan.route.hedge
            begun = False
            try:
                answer = (
                    self._stream(request, attempts.deployment, work)
                    if hedge is None
                    else self._stream_hedged(request, hedge, work)
                )
                async with aclosing(answer) as events:
                    async for event in events:
                        if isinstance(event, ModelRequest):
                            request = event
                            if not decided:
                                decided = True
                                if request.adapted:
                                    call.response_headers[names.ADAPTED_HEADER] = ", ".join(request.adapted)
                                yield revise(plan.decision, request.model, attempts.failed)
                            continue
                        begun = True
                        if isinstance(event, Completion):
                            self._finish(event, request, work.spending)
                        yield event
                return
            except QuartetError as failure:
                if begun:
                    raise
                await attempts.after(failure)

    async def _generate(self, request: ModelRequest, deployment: Deployment, work: "_Work") -> Completion:
        with deployment.begin() as trial:
            await work.admit(trial, request)
            provider = self._providers[request.model.provider]
            async with work.draw(request, self._drawing) as drawn:
                completion = await provider.generate(drawn, work.call)
            trial.note_whole()
            trial.note_usage(_tokens(completion))
            return completion

    async def _stream(
        self, request: ModelRequest, deployment: Deployment, work: "_Work"
    ) -> AsyncGenerator[ModelRequest | Delta | Completion]:
        """The request once it is accepted, and what the deployment says, while its breaker listens."""
        begun = False
        with deployment.begin() as trial:
            await work.admit(trial, request)
            provider = self._providers[request.model.provider]
            async with (
                work.draw(request, self._drawing) as drawn,
                aclosing(provider.stream(drawn, work.call)) as events,
            ):
                async for event in events:
                    if isinstance(event, Accepted):
                        yield request
                        continue
                    if not begun:
                        begun = True
                        trial.note_first_word()
                    if isinstance(event, Completion):
                        trial.note_usage(_tokens(event))
                    yield event

    async def _generate_hedged(
        self, request: ModelRequest, hedge: Hedge, work: "_Work"
    ) -> tuple[ModelRequest, Completion]:
        """As `_generate`, with a second deployment asked where the first is slow."""

        def start(request: ModelRequest, deployment: Deployment) -> Leg[Completion]:
            return Leg(request, deployment, self._generate(request, deployment, work))

        deployment = work.attempts.deployment
        first = start(request, deployment)
        legs = await race(first, hedge.delay_s(deployment.whole), lambda: work.start_second(start))
        winner = work.note_race(legs)
        return winner.request, winner.task.result()

    async def _stream_hedged(
        self, request: ModelRequest, hedge: Hedge, work: "_Work"
    ) -> AsyncGenerator[ModelRequest | Delta | Completion]:
        """As `_stream`, with a second deployment asked where the first is slow to say its first word."""

        def start(request: ModelRequest, deployment: Deployment) -> Leg[_Begun]:
            events = self._stream(request, deployment, work)
            leg = Leg(request, deployment, _begin(events))
            leg.resources.push_async_callback(events.aclose)
            return leg

        deployment = work.attempts.deployment
        first = start(request, deployment)
        legs = await race(first, hedge.delay_s(deployment.first_word), lambda: work.start_second(start))
        winner = work.note_race(legs)
        async with winner.resources:
            word, following = winner.task.result()
            yield winner.request
            yield word
            async for event in following:
                yield event

    def _finish(self, completion: Completion, request: ModelRequest, spending: Spending) -> None:
        completion.model = request.model.id
        completion.adapted.extend(request.adapted)
        completion.usage.model_calls = spending.model_calls
        if not request.purpose.overhead:
            self._lengths.note(request.purpose.route, request.model.id, completion.usage.output_tokens)


_Begun = tuple[Delta | Completion, AsyncGenerator[ModelRequest | Delta | Completion]]


async def _begin(events: AsyncGenerator[ModelRequest | Delta | Completion]) -> _Begun:
    """The first word of a stream, and the stream to go on with; every stream has one, or fails."""
    while isinstance(event := await anext(events), ModelRequest):
        pass
    return event, events


class _Work:
    """One request while it is being answered."""

    def __init__(
        self, prompt: Prompt, plan: Plan, call: Call, attempts: Attempts, spending: Spending
    ) -> None:
        self._prompt = prompt
        self._plan = plan
        self.call = call
        self.attempts = attempts
        self.spending = spending
        self._tier = expected_tier(prompt.spec)

    def prepare(self, deployment: Deployment) -> ModelRequest:
        """The request to a deployment, within the budget; raises BUDGET_EXHAUSTED."""
        plan, prompt, model = self._plan, self._prompt, deployment.model
        limit = min(plan.decision.max_output_tokens, model.max_output_tokens)
        allowed = self.spending.admit(
            model, input_tokens=plan.input_tokens, output_tokens=limit, service_tier=self._tier
        )
        purpose = Purpose(
            route=plan.decision.route,
            run_id=prompt.run_id,
            cache=name_outcome(plan.decision.cache),
            input_tokens=plan.input_tokens,
            superseded=plan.superseded,
            overhead=plan.overhead,
        )
        request = adapt(prompt, model, plan.route, output_tokens=allowed, purpose=purpose)
        if request.adapted:
            log.info("request adapted", extra={"model": model.id, "adapted": list(request.adapted)})
        return request

    @asynccontextmanager
    async def draw(self, request: ModelRequest, drawing: Drawing) -> AsyncIterator[ModelRequest]:
        """The request with its draw from the account, if it has one; raises as `Drawing.draw`."""
        budget = self._prompt.budget
        if not budget.account_id:
            yield request
            return
        async with drawing.draw(budget.account_id, self._amount(request), self.call) as draw:
            yield replace(request, purpose=replace(request.purpose, draw=draw))

    def _amount(self, request: ModelRequest) -> Amount:
        """What the attempt is expected to use; all that it may, where the request has a budget to keep."""
        budget, spec, plan = self._prompt.budget, self._prompt.spec, self._plan
        output = request.spec.max_output_tokens
        if not (budget.HasField("max_tokens") or budget.HasField("max_cost_micro_usd")):
            asked = spec.HasField("max_output_tokens")
            output = min(output, spec.max_output_tokens if asked else plan.route.expected_output_tokens)
        cost = estimate_cost(
            request.model.prices,
            input_tokens=plan.input_tokens,
            output_tokens=output,
            service_tier=self._tier,
        )
        return Amount(tokens=plan.input_tokens + output, cost_micro_usd=cost)

    async def admit(self, trial: Trial, request: ModelRequest) -> None:
        """Counts the call, with the most it may write, against the deployment's limits."""
        tokens = request.purpose.input_tokens + request.spec.max_output_tokens
        await trial.admit(tokens, self.spending, self.call.remaining_s())

    def start_second(self, start: Callable[[ModelRequest, Deployment], Leg[T]]) -> Leg[T] | None:
        """The second call of a race, where the budgets have one left and somebody can be asked."""
        deployment = self.attempts.find_second()
        if deployment is None:
            return None
        try:
            return start(self.prepare(deployment), deployment)
        except QuartetError:
            return None

    def note_race(self, legs: Sequence[Leg[T]]) -> Leg[T]:
        """The leg that counts; those that failed before it are noted."""
        for leg in legs[:-1]:
            error = leg.task.exception()
            if isinstance(error, QuartetError):
                self.attempts.note(leg.deployment, error)
        self.attempts.deployment = legs[-1].deployment
        return legs[-1]


def _tokens(completion: Completion) -> int:
    return completion.usage.input_tokens + completion.usage.output_tokens
