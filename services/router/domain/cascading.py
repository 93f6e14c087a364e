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
    """A cheap answer: its events in order, the decision first, and what speaks against it."""

    decision: Decision
    events: Sequence[Event]
    completion: Completion
    message: Message
    objection: str

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


class Cascading:
    """As `Answering`, with the answers of the cheaper models checked where the plan says so.

    What a caller is charged for is the sum of all calls; the ledger has each.
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
            return draft.decision, draft.completion
        try:
            decision, completion = await self._answering.answer(prompt, attempt.then, call, attempt.spending)
        except QuartetError as failure:
            if draft is None or not draft.is_of_use:
                raise
            return _doubt(draft, failure), draft.completion
        return note_failures(decision, attempt.failed), _charge_all(completion, draft)

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
            yield _doubt(draft, failure)
            for event in draft.events[1:]:
                yield event

    async def _stream_strong(self, prompt: Prompt, attempt: "_Attempt", call: Call) -> AsyncGenerator[Event]:
        stream = self._answering.stream(prompt, attempt.then, call, attempt.spending)
        async with aclosing(stream) as events:
            async for event in events:
                if isinstance(event, Completion):
                    yield _charge_all(event, attempt.draft)
                else:
                    yield note_failures(event, attempt.failed) if isinstance(event, Decision) else event

    async def _try(self, ask: _Ask, prompt: Prompt, plan: Plan, call: Call) -> "_Attempt":
        """Asks the cheaper models, and checks what they say.

        Where they fail, there is no draft; what would fail with the strong ones, too, is raised.
        """
        spending = Spending(prompt.budget)
        first = replace(plan, models=tuple(model for model in plan.models if model.id in plan.drafting))
        then = replace(plan, models=tuple(model for model in plan.models if model.id not in plan.drafting))
        try:
            events, message = await ask(first, spending)
        except QuartetError as failure:
            if not (failures.may_pass_on(failure) or failure.reason == failures.ALL_FAILED):
                raise
            failed = {model.id: failure.message for model in first.models}
            return _Attempt(draft=None, then=then, failed=failed, spending=spending)
        decision = next(event for event in events if isinstance(event, Decision))
        completion = next(event for event in events if isinstance(event, Completion))
        spending.charge(completion.usage)
        used = Usage()
        used.CopyFrom(completion.usage)
        objection = await self._object(completion, message, prompt, first, call, spending)
        if objection:
            log.info("answer escalated", extra={"model": completion.model, "objection": objection})
        draft = _Draft(
            decision=decision, events=events, completion=completion, message=message, objection=objection
        )
        failed = {completion.model: objection}
        return _Attempt(draft=draft, then=replace(then, superseded=used), failed=failed, spending=spending)

    async def _object(
        self,
        completion: Completion,
        message: Message,
        prompt: Prompt,
        plan: Plan,
        call: Call,
        spending: Spending,
    ) -> str:
        """Why the answer will not do; empty when it will."""
        cascade, text = plan.route.cascade or Cascade(), read_text(message)
        objection = object_to(completion, message, prompt.spec, cascade)
        if objection or not text or not cascade.judge_output_tokens:
            return objection
        verdict = await self._judge(prompt, text, plan, cascade, call, spending)
        if verdict is None:
            return ""
        spending.charge(verdict.usage)
        completion.usage.CopyFrom(_sum(completion.usage, verdict.usage))
        is_wrong = read_text(verdict.message).strip().lower().startswith("no")
        return "a judge finds it wrong" if is_wrong else ""

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


def _doubt(draft: _Draft, failure: QuartetError) -> Decision:
    """The draft's decision where the strong models fail: a doubtful answer is better than none."""
    decision = Decision()
    decision.CopyFrom(draft.decision)
    decision.warnings.append(
        f"the answer did not pass its check ({draft.objection}), and the strong models failed: "
        f"{failure.message}"
    )
    return decision


def _charge_all(completion: Completion, draft: _Draft | None) -> Completion:
    """The answer with what the draft took, too: a copy, since the ledger still reads the answer's own."""
    if draft is None:
        return completion
    charged = Completion()
    charged.CopyFrom(completion)
    charged.usage.CopyFrom(_sum(completion.usage, draft.completion.usage))
    return charged


def _sum(first: Usage, second: Usage) -> Usage:
    """Of two calls; the number of calls is a running one already."""
    fields: Mapping[str, int] = {
        field.name: getattr(first, field.name) + getattr(second, field.name)
        for field in Usage.DESCRIPTOR.fields
        if field.name != "model_calls"
    }
    return Usage(model_calls=max(first.model_calls, second.model_calls), **fields)
