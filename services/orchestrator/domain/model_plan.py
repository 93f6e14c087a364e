"""A plan as a model writes it: read strictly, then made a plan of ours."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from quartet.common.v1 import run_pb2
from services.orchestrator.domain.planner import assemble
from services.orchestrator.domain.progress import Progress
from services.orchestrator.domain.prompts import MAX_PLAN_STEPS
from services.orchestrator.domain.reformulation import key_of
from services.orchestrator.domain.words import content_words, stem, stems

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


class MalformedPlanError(Exception):
    """A model's plan cannot be read; the message says why, for the model to mend it."""


class DraftStep(BaseModel):
    """A step in the model's own words."""

    model_config = ConfigDict(extra="ignore")
    kind: Literal["retrieval", "analysis", "generation"]
    input: Text


class DraftPlan(BaseModel):
    """The JSON that the model is asked for."""

    model_config = ConfigDict(extra="ignore")
    reason: str = ""
    steps: list[DraftStep] = Field(max_length=MAX_PLAN_STEPS)


def read_plan(progress: Progress, text: str) -> run_pb2.PlanMade:
    """The plan in a model's answer, without the queries that were done before.

    A query that shares half of its words with a sub-question that is still open follows that one up, and is
    judged by it. A plan without new queries is empty: there is nothing new to try.

    Raises:
        MalformedPlanError: there is no JSON object in it, or not of the right form.
    """
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise MalformedPlanError("there is no JSON object in it")
    try:
        draft = DraftPlan.model_validate_json(text[start : end + 1])
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_input=False)
        ]
        raise MalformedPlanError("; ".join(faults)[:500]) from None
    used = progress.queries()
    retrievals = [
        step.input for step in draft.steps if step.kind == "retrieval" and key_of(step.input) not in used
    ]
    if not retrievals and not progress.plans:
        raise MalformedPlanError("it has no retrieval step, and nothing is known yet")
    plan = assemble(
        progress,
        [
            (query, _followed(progress, query))
            for query in {key_of(query): query for query in retrievals}.values()
        ],
        reason=draft.reason if progress.plans else "",
        analyses=[step.input for step in draft.steps if step.kind == "analysis"],
    )
    _insert_writing(plan, [step.input for step in draft.steps if step.kind == "generation"])
    return plan


def _followed(progress: Progress, query: str) -> list[str]:
    words = [stem(word) for word in content_words(query)]
    shared = {
        need.tries[-1].step.id: sum(word in stems(need.question) for word in words)
        for need in progress.needs()
        if not need.is_met
    }
    nearest = max(shared, key=lambda step_id: shared[step_id], default=None)
    return [nearest] if nearest is not None and 2 * shared[nearest] >= len(words) > 0 else []


def _insert_writing(plan: run_pb2.PlanMade, instructions: list[str]) -> None:
    """Puts generation steps before the synthesis, which then reads them too."""
    if not plan.steps or not instructions:
        return
    synthesis = plan.steps.pop()
    analyses = list(synthesis.depends_on)
    for instruction in instructions:
        step = plan.steps.add(
            id=f"{plan.iteration}.{len(plan.steps) + 1}",
            kind=run_pb2.STEP_KIND_GENERATION,
            input=instruction,
            depends_on=analyses,
        )
        synthesis.depends_on.append(step.id)
    synthesis.id = f"{plan.iteration}.{len(plan.steps) + 1}"
    plan.steps.append(synthesis)
