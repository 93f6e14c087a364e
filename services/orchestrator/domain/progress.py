"""Where a run stands: what was planned, what came of it, what it used."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from quartet.common.v1 import generation_pb2, message_pb2, run_pb2
from services.kit.usage import add_usage
from services.orchestrator.domain.judge import CONFIDENCE_FLOOR
from services.orchestrator.domain.reformulation import key_of

RETRIEVAL = run_pb2.STEP_KIND_RETRIEVAL
SYNTHESIS = run_pb2.STEP_KIND_SYNTHESIS
MAX_PASSAGES = 24
"""Most passages that one model call reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A run's task and its history; grows by `planned` and `acted`, never changes.

    Attributes:
        task: What is to be done.
        max_iterations: Plans that may be made, 0 or more.
        plans: In order; the last is the one being carried out.
        results: Of all steps, in order.
        usage: Sum over all plans and steps.
    """

    task: run_pb2.Task
    max_iterations: int
    plans: tuple[run_pb2.PlanMade, ...] = ()
    results: tuple[run_pb2.StepResult, ...] = ()
    usage: generation_pb2.Usage = field(default_factory=generation_pb2.Usage)

    @property
    def question(self) -> str:
        """The text of the last user message."""
        return question_of(self.task)

    def planned(self, plan: run_pb2.PlanMade, usage: generation_pb2.Usage) -> "Progress":
        """With one more plan."""
        return replace(self, plans=(*self.plans, plan), usage=total([self.usage, usage]))

    def acted(self, result: run_pb2.StepResult) -> "Progress":
        """With one more result."""
        return replace(self, results=(*self.results, result), usage=total([self.usage, result.usage]))

    def result(self, step_id: str) -> run_pb2.StepResult | None:
        """What came of a step, or None while it is to be done."""
        return next((result for result in self.results if result.step.id == step_id), None)

    def is_confident(self, step_id: str) -> bool:
        """True when the step is done and its result needs no new plan."""
        result = self.result(step_id)
        return result is not None and not is_weak(result)

    @property
    def retrievals(self) -> list[run_pb2.StepResult]:
        """The results that hold passages."""
        return [result for result in self.results if result.step.kind == RETRIEVAL]

    def queries(self) -> set[str]:
        """The keys of all queries that were done."""
        return {key_of(result.step.input) for result in self.retrievals}

    def lineage(self, step: run_pb2.Step) -> list[run_pb2.StepResult]:
        """The retrievals that a retrieval follows up, from the first on, itself not included."""
        line: list[run_pb2.StepResult] = []
        while step.depends_on:
            result = self.result(step.depends_on[0])
            if result is None or result.step.kind != RETRIEVAL:
                break
            line.append(result)
            step = result.step
        return line[::-1]

    def need(self, step: run_pb2.Step) -> str:
        """The sub-question that a retrieval serves, in its first words."""
        line = self.lineage(step)
        return line[0].step.input if line else step.input

    def needs(self) -> list["Need"]:
        """The sub-questions asked so far, in order."""
        by_first: dict[str, list[run_pb2.StepResult]] = {}
        for result in self.retrievals:
            line = self.lineage(result.step)
            by_first.setdefault((line[0] if line else result).step.id, []).append(result)
        return [Need(tries=tuple(tries)) for tries in by_first.values()]

    def passages(self, step_ids: Iterable[str] | None = None) -> list[message_pb2.Passage]:
        """Distinct passages of the named retrievals and of those behind them, or of all; the surest first."""
        chosen = self.retrievals
        if step_ids is not None:
            wanted = set(step_ids)
            read = [result for result in chosen if result.step.id in wanted]
            behind = {before.step.id for result in read for before in self.lineage(result.step)}
            chosen = [result for result in chosen if result.step.id in wanted | behind]
        ordered = sorted(chosen, key=lambda result: -result.confidence)
        return take_turns([result.passages for result in ordered])


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A sub-question and the retrievals that were done for it, at least one."""

    tries: tuple[run_pb2.StepResult, ...]

    @property
    def question(self) -> str:
        """In its first words."""
        return self.tries[0].step.input

    @property
    def best(self) -> run_pb2.StepResult:
        """The surest result."""
        return max(self.tries, key=lambda result: result.confidence)

    @property
    def is_met(self) -> bool:
        """True when one of the tries found enough."""
        return not is_weak(self.best)


def question_of(task: run_pb2.Task) -> str:
    """The text of the last user message, which is the task; empty when it has none."""
    for message in reversed(task.messages):
        if message.role == message_pb2.ROLE_USER:
            return "\n".join(part.text for part in message.parts if part.WhichOneof("kind") == "text").strip()
    return ""


def is_weak(result: run_pb2.StepResult) -> bool:
    """True when a result asks for a new plan."""
    return result.confidence < CONFIDENCE_FLOOR


def take_turns(groups: Sequence[Sequence[message_pb2.Passage]]) -> list[message_pb2.Passage]:
    """The best passage of each group, then the second best, and so on; each once, MAX_PASSAGES at most."""
    taken: dict[tuple[str, str, str], message_pb2.Passage] = {}
    for rank in range(max(map(len, groups), default=0)):
        for group in groups:
            if rank < len(group):
                passage = group[rank]
                taken.setdefault((passage.document_id, passage.chunk_id, passage.text), passage)
    return list(taken.values())[:MAX_PASSAGES]


def total(usages: Iterable[generation_pb2.Usage]) -> generation_pb2.Usage:
    """The sum of usages, count by count."""
    summed = generation_pb2.Usage()
    for usage in usages:
        add_usage(summed, usage)
    return summed
