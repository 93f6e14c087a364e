"""What pipelines and runs do, one line for each thing."""

from collections.abc import Iterator

from quartet.common.v1 import run_pb2, stage_pb2
from services.cli.render import enum_word


def describe_stage(stage: stage_pb2.StageReport) -> str:
    """A pipeline's stage: what it made, how long it took, and whether it ended the work."""
    line = f"{stage.stage}: {stage.summary or 'done'} ({stage.duration_us / 1000:.1f} ms)"
    return f"{line}, ended the work: {stage.abort_reason}" if stage.abort_reason else line


def describe_event(event: run_pb2.RunEvent) -> Iterator[str]:
    """The lines for an event of a run; none for its start and for pieces of its answer."""
    match event.WhichOneof("kind"):
        case "plan":
            plan = event.plan
            why = f": {plan.reason}" if plan.reason else ""
            yield f"{'plan' if plan.iteration <= 1 else 'replan'} {plan.iteration}{why}"
            for step in plan.steps:
                yield f"  {_step(step)}: {step.input}"
        case "step_ended":
            yield f"  {_step(event.step_ended.step)} {_outcome(event.step_ended)}"
        case "approval_requested":
            asked = event.approval_requested
            yield f"  {_step(asked.step)} waits for approval {asked.approval_id}"
        case "approval_answered":
            answered = event.approval_answered
            comment = f": {answered.comment}" if answered.comment else ""
            yield f"  approval {answered.approval_id} {'given' if answered.approved else 'refused'}{comment}"
        case "ended":
            yield describe_run(event.ended.run)


def describe_run(run: run_pb2.Run) -> str:
    """A run in one line: where it is, why it stopped, and how much it took."""
    words = [f"run {run.id} {state_of(run)}"]
    if run.stop_reason:
        words.append(f"stopped: {stop_reason_of(run)}")
    words.append(f"{counted(run.iterations, 'iteration')}, {counted(run.replans, 'replan')}")
    if run.error.message:
        words.append(run.error.message)
    return ", ".join(words)


def state_of(run: run_pb2.Run) -> str:
    """The run's state as a word."""
    return enum_word(run_pb2.RunState.Name(run.state), "RUN_STATE_")


def stop_reason_of(run: run_pb2.Run) -> str:
    """Why the run stopped, in words; empty while it works."""
    if not run.stop_reason:
        return ""
    return enum_word(run_pb2.StopReason.Name(run.stop_reason), "STOP_REASON_")


def is_partial(run: run_pb2.Run) -> bool:
    """Whether the run ended with less than it was asked for."""
    return run.stop_reason not in (run_pb2.STOP_REASON_UNSPECIFIED, run_pb2.STOP_REASON_DONE)


def counted(count: int, thing: str) -> str:
    """`1 replan`, `2 replans`."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _step(step: run_pb2.Step) -> str:
    return f"{step.id} {enum_word(run_pb2.StepKind.Name(step.kind), 'STEP_KIND_')}"


def _outcome(result: run_pb2.StepResult) -> str:
    if result.HasField("error"):
        return f"failed: {result.error.message}"
    judgement = f": {result.judgement}" if result.judgement else ""
    return f"done, confidence {result.confidence:.2f}{judgement}"
