"""The loop's next move, told from where the run stands: the same history always gives the same move."""

from dataclasses import dataclass

from quartet.common.v1 import error_pb2, run_pb2
from services.kit import errors
from services.orchestrator.domain.progress import RETRIEVAL, SYNTHESIS, Progress, is_weak

DEFAULT_MAX_ITERATIONS = 8
HARD_MAX_ITERATIONS = 50


@dataclass(frozen=True, slots=True)
class MakePlan:
    """Plan, or plan anew."""


@dataclass(frozen=True, slots=True)
class Act:
    """Carry a step out."""

    step: run_pb2.Step


@dataclass(frozen=True, slots=True)
class Conclude:
    """End for a reason; `step` is the synthesis that writes the answer, None when nothing may be spent."""

    reason: run_pb2.StopReason.ValueType
    step: run_pb2.Step | None = None
    error: error_pb2.Error | None = None


Move = MakePlan | Act | Conclude


def next_move(progress: Progress) -> Move:
    """What a run does next; bounded, since plans are at most `max_iterations` and each has a few steps."""
    failed = next((result.error for result in progress.results if result.HasField("error")), None)
    if failed is not None:
        return Conclude(stop_reason_of(failed), error=failed)
    if is_spent(progress):
        return Conclude(run_pb2.STOP_REASON_BUDGET)
    if not progress.plans:
        return MakePlan() if progress.max_iterations > 0 else Conclude(run_pb2.STOP_REASON_MAX_ITERATIONS)
    plan = progress.plans[-1]
    if not plan.steps:
        return Conclude(run_pb2.STOP_REASON_NO_PROGRESS, _partial_synthesis(progress))
    for step in plan.steps:
        if progress.result(step.id) is None and _may_begin(progress, step):
            return Conclude(run_pb2.STOP_REASON_DONE, step) if step.kind == SYNTHESIS else Act(step)
    if len(progress.plans) < progress.max_iterations:
        return MakePlan()
    return Conclude(run_pb2.STOP_REASON_MAX_ITERATIONS, _partial_synthesis(progress))


def stop_reason_of(error: error_pb2.Error) -> run_pb2.StopReason.ValueType:
    """Why a run ends whose step failed."""
    if error.code == errors.Cancelled.code:
        return run_pb2.STOP_REASON_CANCELLED
    if error.code == errors.DeadlineExceeded.code:
        return run_pb2.STOP_REASON_DEADLINE
    if error.code == errors.ResourceExhausted.code:
        return run_pb2.STOP_REASON_BUDGET
    return run_pb2.STOP_REASON_ERROR


def is_spent(progress: Progress) -> bool:
    """True when one of the budget's limits is reached; a limit of zero money leaves what costs nothing."""
    budget, usage = progress.task.budget, progress.usage
    return (
        (budget.HasField("max_tokens") and usage.input_tokens + usage.output_tokens >= budget.max_tokens)
        or (
            budget.HasField("max_cost_micro_usd")
            and usage.cost_micro_usd >= max(1, budget.max_cost_micro_usd)
        )
        or (budget.HasField("max_model_calls") and usage.model_calls >= budget.max_model_calls)
    )


def max_iterations_of(task: run_pb2.Task) -> int:
    """How many plans a task allows: 8 when it does not say, 50 at most, and 0 where it says 0."""
    if not task.budget.HasField("max_iterations"):
        return DEFAULT_MAX_ITERATIONS
    return min(task.budget.max_iterations, HARD_MAX_ITERATIONS)


def _may_begin(progress: Progress, step: run_pb2.Step) -> bool:
    """A retrieval always may, since it repairs what it follows; the others need sure ground."""
    return step.kind == RETRIEVAL or all(progress.is_confident(name) for name in step.depends_on)


def _partial_synthesis(progress: Progress) -> run_pb2.Step | None:
    """The step that answers from what there is; None when nothing was found."""
    found = [result.step.id for result in progress.results if result.passages or not is_weak(result)]
    if not progress.passages():
        return None
    iteration = max(1, len(progress.plans))
    return run_pb2.Step(id=f"{iteration}.partial", kind=SYNTHESIS, input=progress.question, depends_on=found)
