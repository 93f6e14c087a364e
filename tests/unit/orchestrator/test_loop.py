from quartet.common.v1 import error_pb2, generation_pb2, message_pb2, run_pb2
from services.orchestrator.domain.loop import Act, Conclude, MakePlan, max_iterations_of, next_move
from services.orchestrator.domain.planner import make_plan
from services.orchestrator.domain.progress import Progress
from tests.unit.orchestrator.conftest import Begin

QUESTION = "Which was opened first, the Aldermoor Bridge or the Corvane Bridge?"


def done(progress: Progress, confidence: float, text: str = "about bridges", **fields: object) -> Progress:
    """The next step with a result of this confidence."""
    move = next_move(progress)
    assert isinstance(move, Act)
    passages = [message_pb2.Passage(document_id=move.step.id, text=text)] if text else []
    return progress.acted(
        run_pb2.StepResult(step=move.step, confidence=confidence, passages=passages, **fields)  # type: ignore[arg-type]
    )


def planned(progress: Progress) -> Progress:
    assert isinstance(next_move(progress), MakePlan)
    return progress.planned(make_plan(progress), generation_pb2.Usage())


def test_a_sure_plan_is_carried_out_to_its_synthesis(begin: Begin) -> None:
    progress = planned(begin(QUESTION))
    for _ in range(3):
        progress = done(progress, 0.9)
    move = next_move(progress)
    assert isinstance(move, Conclude)
    assert move.reason == run_pb2.STOP_REASON_DONE
    assert move.step is not None
    assert move.step.id == "1.4"


def test_a_weak_retrieval_is_planned_anew_once_its_siblings_are_done(begin: Begin) -> None:
    progress = done(planned(begin(QUESTION)), 0.69)
    progress = done(progress, 0.7)
    progress = planned(progress)
    new = progress.plans[-1]
    retrieval, analysis, synthesis = new.steps
    assert retrieval.input != progress.plans[0].steps[0].input
    assert list(retrieval.depends_on) == ["1.1"]
    assert list(analysis.depends_on) == ["1.2", "2.1"]
    assert list(synthesis.depends_on) == ["2.2"]
    assert progress.need(retrieval) == "Which was opened first, the Aldermoor Bridge?"
    assert "Aldermoor" in new.reason


def test_an_unsure_analysis_is_planned_anew(begin: Begin) -> None:
    progress = done(done(done(planned(begin(QUESTION)), 0.8), 0.9), 0.5, text="")
    progress = planned(progress)
    assert list(progress.plans[-1].steps[0].depends_on) == ["1.1"]


def test_at_the_cap_the_run_ends_with_what_was_found(begin: Begin) -> None:
    progress = begin(QUESTION, max_iterations=2)
    for _ in range(2):
        progress = done(planned(progress), 0.1)
        while isinstance(next_move(progress), Act):
            progress = done(progress, 0.1)
    move = next_move(progress)
    assert isinstance(move, Conclude)
    assert move.reason == run_pb2.STOP_REASON_MAX_ITERATIONS
    assert move.step is not None
    assert {passage.document_id for passage in progress.passages(move.step.depends_on)} >= {"1.1", "2.1"}


def test_a_run_without_iterations_ends_at_once(begin: Begin) -> None:
    assert next_move(begin(QUESTION, max_iterations=0)) == Conclude(run_pb2.STOP_REASON_MAX_ITERATIONS)


def test_an_empty_plan_means_no_progress(begin: Begin) -> None:
    progress = begin(QUESTION).planned(run_pb2.PlanMade(iteration=1), generation_pb2.Usage())
    assert next_move(progress) == Conclude(run_pb2.STOP_REASON_NO_PROGRESS)


def test_spent_money_tokens_and_calls_end_a_run(begin: Begin) -> None:
    usage = generation_pb2.Usage(input_tokens=60, output_tokens=40, cost_micro_usd=7, model_calls=1)
    for budget, spent in [
        (generation_pb2.Budget(max_tokens=100), True),
        (generation_pb2.Budget(max_tokens=101), False),
        (generation_pb2.Budget(max_cost_micro_usd=7), True),
        (generation_pb2.Budget(max_cost_micro_usd=8), False),
        (generation_pb2.Budget(max_cost_micro_usd=0), True),
        (generation_pb2.Budget(max_model_calls=1), True),
        (generation_pb2.Budget(), False),
    ]:
        progress = begin(QUESTION, budget=budget)
        move = next_move(progress.planned(make_plan(progress), usage))
        assert (move == Conclude(run_pb2.STOP_REASON_BUDGET)) == spent, budget


def test_no_money_still_lets_what_is_free_be_done(begin: Begin) -> None:
    progress = begin(QUESTION, budget=generation_pb2.Budget(max_cost_micro_usd=0))
    assert isinstance(next_move(progress), MakePlan)


def test_a_failed_step_ends_the_run_for_its_reason(begin: Begin) -> None:
    for code, reason in [
        (1, run_pb2.STOP_REASON_CANCELLED),
        (4, run_pb2.STOP_REASON_DEADLINE),
        (8, run_pb2.STOP_REASON_BUDGET),
        (5, run_pb2.STOP_REASON_ERROR),
    ]:
        progress = done(planned(begin(QUESTION)), 0, error=error_pb2.Error(code=code))
        move = next_move(progress)
        assert isinstance(move, Conclude)
        assert (move.reason, move.step) == (reason, None)


def test_iterations_are_eight_unless_said_and_never_more_than_fifty() -> None:
    def limit(budget: generation_pb2.Budget) -> int:
        return max_iterations_of(run_pb2.Task(budget=budget))

    assert limit(generation_pb2.Budget()) == 8
    assert limit(generation_pb2.Budget(max_iterations=0)) == 0
    assert limit(generation_pb2.Budget(max_iterations=51)) == 50
