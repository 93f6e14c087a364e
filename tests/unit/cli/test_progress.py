from quartet.common.v1 import run_pb2, stage_pb2
from quartet.common.v1.error_pb2 import Error
from services.cli.progress import describe_event, describe_run, describe_stage, is_partial

STEP = run_pb2.Step(id="1.2", kind=run_pb2.STEP_KIND_GENERATION, input="Write it.")


def test_a_step_that_failed_says_why() -> None:
    result = run_pb2.StepResult(step=STEP, error=Error(message="no model is configured"))
    lines = list(describe_event(run_pb2.RunEvent(step_ended=result)))
    assert lines == ["  1.2 generation failed: no model is configured"]


def test_an_approval_is_asked_for_and_answered() -> None:
    asked = run_pb2.ApprovalRequested(approval_id="a1", step=STEP)
    refused = run_pb2.ApprovalAnswered(approval_id="a1", comment="too dear")
    assert list(describe_event(run_pb2.RunEvent(approval_requested=asked))) == [
        "  1.2 generation waits for approval a1"
    ]
    assert list(describe_event(run_pb2.RunEvent(approval_answered=refused))) == [
        "  approval a1 refused: too dear"
    ]


def test_a_run_that_failed_says_why() -> None:
    run = run_pb2.Run(
        id="r1",
        state=run_pb2.RUN_STATE_FAILED,
        stop_reason=run_pb2.STOP_REASON_ERROR,
        iterations=1,
        error=Error(message="the pipeline is down"),
    )
    assert describe_run(run) == "run r1 failed, stopped: error, 1 iteration, 0 replans, the pipeline is down"


def test_only_a_run_that_is_done_is_whole() -> None:
    assert not is_partial(run_pb2.Run(stop_reason=run_pb2.STOP_REASON_DONE))
    assert not is_partial(run_pb2.Run(state=run_pb2.RUN_STATE_RUNNING))
    assert is_partial(run_pb2.Run(stop_reason=run_pb2.STOP_REASON_BUDGET))


def test_a_stage_that_ended_the_work_says_why() -> None:
    stage = stage_pb2.StageReport(stage="retrieve", duration_us=800, abort_reason="nothing is near enough")
    assert describe_stage(stage) == "retrieve: done (0.8 ms), ended the work: nothing is near enough"
