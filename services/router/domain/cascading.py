"""The cheaper models answer first; the strong ones are asked where the answer will not do.

After L. Chen, M. Zaharia and J. Zou, FrugalGPT (2023).
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from quartet.common.v1.decision_pb2 import Decision
from quartet.common.v1.generation_pb2 import Budget, Completion, Delta, Usage
from quartet.common.v1.message_pb2 import ROLE_USER, Message, Part
from quartet.router.v1.router_pb2 import Prompt
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.kit.usage import add_usage
from services.router.domain import failures
from services.router.domain.answering import Answering
from services.router.domain.budget import Spending
from services.router.domain.checking import Cascade, object_to, read_text
from services.router.domain.ledger import JUDGE
from services.router.domain.plan import Plan, note_failures
from services.router.domain.recording import assemble

MAX_JUDGED_CHARS = 8_000
"""Of the question, and of the answer, that a judge reads."""

_JUDGE = """\
A question and an answer to it follow. Is the answer correct and complete? Say yes or no, and nothing else.

<question>
{question}
</question>

<answer>
{answer}
</answer>"""

Event = Decision | Delta | Completion
_Ask = Callable[[Plan, Spending], Awaitable[tuple[Sequence[Event], Message]]]
"""Gets the events of an answer, and its message."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A cheap answer: its events in order, the decision first, and what speaks against it.

    Attributes:
        judging: What a judge used; None where none was asked.
    """

    decision: Decision
    events: Sequence[Event]
    completion: Completion
    message: Message
    objection: str
    judging: Usage | None

    @property
    def is_of_use(self) -> bool:
        """Whether it is better than no answer."""
        return bool(self.message.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """What came of the cheaper models, and how to go on.

    Attributes:
        then: The plan of the strong models.
        failed: What speaks against models that were asked, by id.
        spending: What is left of the budget.
    """

    draft: _Draft | None
    then: Plan
    failed: Mapping[str, str]
    spending: Spending

    def give_draft(self, draft: _Draft) -> None:
        """Notes that the draft is the answer, and what was used beside it."""
        self._note_beside(draft.completion, draft.judging)

    def give_strong(self, answer: Completion) -> None:
        """As `give_draft`, where a strong model answers."""
        if self.draft is not None:
            self._note_beside(answer, self.draft.completion.usage, self.draft.judging)

    def _note_beside(self, answer: Completion, *usages: Usage | None) -> None:
        beside = Usage()
        for usage in filter(None, usages):
            add_usage(beside, usage)
        # An answer's own number of calls is a running one.
        beside.model_calls = self.spending.model_calls - answer.usage.model_calls
        self.then.course.beside = beside


class Cascading:
    """As `Answering`, with the answers of the cheaper models checked where the plan says so.

    The answer bears its own usage alone. What drafts and judges used goes to the plan's course, from which
    the caller is charged; the ledger has each call.
    """

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    async def answer(self, prompt: Prompt, plan: Plan, call: Call) -> tuple[Decision, Completion]:
        """The answer, and the decision as it turned out; raises as `Answering.answer`."""
        if plan.cascade is None:
            return await self._answering.answer(prompt, plan, call)

        async def ask(first: Plan, spending: Spending) -> tuple[Sequence[Event], Message]:
            decision, completion = await self._answering.answer(prompt, first, call, spending)
            return (decision, completion), completion.message

        attempt = await self._try(ask, prompt, plan, call)
        if (draft := attempt.draft) is not None and not draft.objection:
            attempt.give_draft(draft)
            return draft.decision, draft.completion
        try:
            decision, completion = await self._answering.answer(prompt, attempt.then, call, attempt.spending)
        except QuartetError as failure:
            if draft is None or not draft.is_of_use:
                raise
            attempt.give_draft(draft)
            return _doubt(draft, plan, failure), draft.completion
        attempt.give_strong(completion)
        return note_failures(decision, attempt.failed), completion

    def stream(self, prompt: Prompt, plan: Plan, call: Call) -> AsyncGenerator[Event]:
        """As `Answering.stream`; a cheap answer is held back until it is whole and checked."""
        if plan.cascade is None:
            return self._answering.stream(prompt, plan, call)
        return self._stream_cascade(prompt, plan, call)

    async def _stream_cascade(self, prompt: Prompt, plan: Plan, call: Call) -> AsyncGenerator[Event]:
        async def ask(first: Plan, spending: Spending) -> tuple[Sequence[Event], Message]:
            async with aclosing(self._answering.stream(prompt, first, call, spending)) as events:
                heard = [event async for event in events]
            return heard, assemble(event for event in heard if isinstance(event, Delta))

        attempt = await self._try(ask, prompt, plan, call)
        if (draft := attempt.draft) is not None and not draft.objection:
            attempt.give_draft(draft)
            for event in draft.events:
                yield event
            return
        begun = False
        try:
            async with aclosing(self._stream_strong(prompt, attempt, call)) as events:
                async for event in events:
                    begun = True
                    yield event
        except QuartetError as failure:
            if begun or draft is None or not draft.is_of_use:
                raise
            attempt.give_draft(draft)
            yield _doubt(draft, plan, failure)
            for event in draft.events[1:]:
                yield event

    async def _stream_strong(self, prompt: Prompt, attempt: _Attempt, call: Call) -> AsyncGenerator[Event]:
        stream = self._answering.stream(prompt, attempt.then, call, attempt.spending)
        async with aclosing(stream) as events:
            async for event in events:
                if isinstance(event, Completion):
                    attempt.give_strong(event)
                yield note_failures(event, attempt.failed) if isinstance(event, Decision) else event

    async def _try(self, ask: _Ask, prompt: Prompt, plan: Plan, call: Call) -> _Attempt:
        """Asks the cheaper models, and checks what they say.

        Where they fail, there is no draft; what would fail with the strong ones, too, is raised.
        """
        spending = Spending(prompt.budget)
        first = replace(plan, models=tuple(model for model in plan.models if model.id in plan.drafting))
        then = replace(plan, models=plan.escalation)
        try:
            events, message = await ask(first, spending)
        except QuartetError as failure:
            if not (failures.may_pass_on(failure) or failure.reason == failures.ALL_FAILED):
                raise
            plan.course.due = ""
            failed = {model.id: failure.message for model in first.models}
            return _Attempt(draft=None, then=then, failed=failed, spending=spending)
        decision = next(event for event in events if isinstance(event, Decision))
        completion = next(event for event in events if isinstance(event, Completion))
        spending.charge(completion.usage)
        objection, judging = await self._object(completion, message, prompt, first, call, spending)
        draft = _Draft(
            decision=decision,
            events=events,
            completion=completion,
            message=message,
            objection=objection,
            judging=judging,
        )
        if objection:
            log.info("answer escalated", extra={"model": completion.model, "objection": objection})
            # The second of the cheaper models answers only where the first one failed.
            is_first = completion.model == first.models[0].id
            plan.course.due = then.models[0].id if is_first else ""
        return _Attempt(
            draft=draft,
            then=replace(then, superseded=completion.usage),
            failed={completion.model: objection},
            spending=spending,
        )

    async def _object(
        self,
        completion: Completion,
        message: Message,
        prompt: Prompt,
        plan: Plan,
        call: Call,
        spending: Spending,
    ) -> tuple[str, Usage | None]:
        """Why the answer will not do, empty when it will; and what a judge used."""
        cascade, text = plan.route.cascade or Cascade(), read_text(message)
        objection = object_to(completion, message, prompt.spec, cascade)
        if objection or not text or not cascade.judge_output_tokens:
            return objection, None
        verdict = await self._judge(prompt, text, plan, cascade, call, spending)
        if verdict is None:
            plan.course.due = ""
            return "", None
        spending.charge(verdict.usage)
        is_wrong = read_text(verdict.message).strip().lower().startswith("no")
        return "a judge finds it wrong" if is_wrong else "", verdict.usage

    async def _judge(
        self, prompt: Prompt, text: str, plan: Plan, cascade: Cascade, call: Call, spending: Spending
    ) -> Completion | None:
        """What a cheap model says of the answer; None where it cannot be asked: then the answer counts."""
        asked = next((turn for turn in reversed(prompt.messages) if turn.role == ROLE_USER), Message())
        question = _JUDGE.format(question=read_text(asked)[:MAX_JUDGED_CHARS], answer=text[:MAX_JUDGED_CHARS])
        judged = Prompt(
            messages=[Message(role=ROLE_USER, parts=[Part(text=question)])],
            run_id=prompt.run_id,
            # What is left of the other bounds is in `spending`.
            budget=Budget(account_id=prompt.budget.account_id),
        )
        decision = Decision()
        decision.CopyFrom(plan.decision)
        decision.max_output_tokens = cascade.judge_output_tokens
        route = replace(plan.route, reasoning_effort="none", hedge=None)
        asking = replace(plan, decision=decision, route=route, overhead=JUDGE)
        try:
            return (await self._answering.answer(judged, asking, call, spending))[1]
        except QuartetError as failure:
            log.warning("no judge can be asked: %s", failure.reason)
            return None


def _doubt(draft: _Draft, plan: Plan, failure: QuartetError) -> Decision:
    """The draft's decision where the strong models fail: a doubtful answer is better than none."""
    plan.course.due = ""
    plan.course.ran_short = failure.reason in failures.CALLERS_OWN
    decision = Decision()
    decision.CopyFrom(draft.decision)
    decision.warnings.append(
        f"the answer did not pass its check ({draft.objection}), and the strong models failed: "
        f"{failure.message}"
    )
    return decision
