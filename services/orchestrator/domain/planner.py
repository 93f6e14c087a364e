"""The planner that needs no model: rules make a plan, and find other words where too little was found."""

from collections.abc import Iterable

from quartet.common.v1 import run_pb2
from services.orchestrator.domain.decomposition import decompose
from services.orchestrator.domain.progress import Progress
from services.orchestrator.domain.reformulation import key_of, reformulate

Draft = tuple[str, list[str]]
"""A retrieval to be: its query, and the step that it follows up."""


def make_plan(progress: Progress) -> run_pb2.PlanMade:
    """The next plan of a run by rules alone; a plan without steps means that there is nothing new to try."""
    if not progress.plans:
        parts = decompose(progress.question)
        return assemble(progress, [(part, []) for part in parts], reason="")
    needs = progress.needs()
    weak = [need for need in needs if not need.is_met] or sorted(
        needs, key=lambda need: need.best.confidence
    )[:1]
    used = progress.queries()
    drafts: list[Draft] = []
    for need in weak:
        query = reformulate(need.question, used=used, passages=need.best.passages, question=progress.question)
        if query is not None:
            used.add(key_of(query))
            drafts.append((query, [need.tries[-1].step.id]))
    return assemble(progress, drafts, reason=reason_for(progress))


def assemble(
    progress: Progress, drafts: Iterable[Draft], *, reason: str, analyses: Iterable[str] = ()
) -> run_pb2.PlanMade:
    """A plan: retrievals, then an analysis of all that is known, then the synthesis; empty without any.

    Args:
        progress: Where the run stands; the new plan's number follows from it.
        drafts: The retrievals.
        reason: Why it is made anew.
        analyses: What is asked of the passages; by default the question itself.
    """
    plan = run_pb2.PlanMade(iteration=len(progress.plans) + 1, reason=reason)
    for query, follows in drafts:
        _add(plan, run_pb2.STEP_KIND_RETRIEVAL, query, follows)
    if not plan.steps:
        return plan
    known = [need.best.step.id for need in progress.needs() if need.is_met]
    read = [*known, *(step.id for step in plan.steps)]
    asked = list(analyses) or [progress.question]
    judged = [_add(plan, run_pb2.STEP_KIND_ANALYSIS, text, read) for text in asked]
    _add(plan, run_pb2.STEP_KIND_SYNTHESIS, progress.question, judged)
    return plan


def reason_for(progress: Progress) -> str:
    """Why the last plan does not do, for a person."""
    short = [need for need in progress.needs() if not need.is_met]
    if short:
        return "; ".join(f"too little on “{need.question[:200]}”: {need.best.judgement}" for need in short)
    last = progress.results[-1] if progress.results else None
    return f"the analysis was unsure: {last.judgement}" if last else ""


def _add(plan: run_pb2.PlanMade, kind: run_pb2.StepKind.ValueType, text: str, reads: list[str]) -> str:
    step = plan.steps.add(
        id=f"{plan.iteration}.{len(plan.steps) + 1}", kind=kind, input=text, depends_on=reads
    )
    return step.id
