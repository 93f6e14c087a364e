import asyncio
import base64
from typing import Any

import pytest

from quartet.common.v1 import document_pb2, generation_pb2, message_pb2, run_pb2
from quartet.orchestrator.v1 import orchestrator_pb2 as pb
from services.kit.call import Call
from services.kit.errors import InvalidArgument, NotFound, ResourceExhausted, Unavailable, Unimplemented
from tests.contract.orchestrator.conftest import Open
from tests.contract.orchestrator.peers import TOKENS_PER_CALL, QuotingRouter, WordPipeline

QUESTION = "When was the Aldermoor Bridge opened?"
HOPELESS = "Which glazed marmalade sculptures did the Quixotic Foundation exhibit during winter festivals?"

ONE_RETRIEVAL = '{"reason": "", "steps": [{"kind": "retrieval", "input": "Aldermoor Bridge opened"}]}'


def call(tenant: str = "acme", timeout_s: float = 30) -> Call:
    return Call.root(timeout_s=timeout_s, tenant=tenant)


def task(
    question: str = QUESTION, *, budget: generation_pb2.Budget | None = None, **fields: Any
) -> run_pb2.Task:
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=question)])
    return run_pb2.Task(messages=[message], budget=budget, **fields)


async def execute(client: Any, wanted: run_pb2.Task, timeout_s: float = 30) -> list[run_pb2.RunEvent]:
    stream = client.stream_execute(pb.StreamExecuteRequest(task=wanted), call(timeout_s=timeout_s))
    return [response.event async for response in stream]


async def run_of(client: Any, wanted: run_pb2.Task) -> run_pb2.Run:
    events = await execute(client, wanted)
    run: run_pb2.Run = events[-1].ended.run
    return run


async def start(client: Any, wanted: run_pb2.Task, key: str = "", tenant: str = "acme") -> run_pb2.Run:
    request = pb.StartRunRequest(task=wanted, idempotency_key=key)
    run: run_pb2.Run = (await client.start_run(request, call(tenant))).run
    return run


async def watch(client: Any, run_id: str, first: int = 0) -> list[run_pb2.RunEvent]:
    request = pb.WatchRunRequest(run_id=run_id, from_event_number=first)
    return [response.event async for response in client.watch_run(request, call())]


def recorded(events: list[run_pb2.RunEvent]) -> list[run_pb2.RunEvent]:
    return [event for event in events if event.number]


@pytest.mark.parametrize("models", [None, ("gpt-6-luna", "local/extractive")])
async def test_a_run_calls_the_models_of_its_key_alone(
    open_orchestrator: Open, kind: str, router: QuotingRouter, models: tuple[str, ...] | None
) -> None:
    router.has_model = True
    router.plans = [ONE_RETRIEVAL] * 3
    own = Call.root(timeout_s=30, tenant="acme", models=models)
    async with open_orchestrator(kind) as client:
        request = pb.StreamExecuteRequest(task=task())
        events = [response.event async for response in client.stream_execute(request, own)]
    assert events[-1].ended.run.state == run_pb2.RUN_STATE_SUCCEEDED
    assert len(router.models) >= 2
    assert set(router.models) == {models}


async def test_a_run_plans_acts_and_answers_with_citations(open_orchestrator: Open, kind: str) -> None:
    async with open_orchestrator(kind) as client:
        events = await execute(client, task())
    run = events[-1].ended.run
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED
    assert run.stop_reason == run_pb2.STOP_REASON_DONE
    (part,) = run.completion.message.parts
    assert "1932" in part.text
    citation = part.citations[0]
    assert citation.document_id == "Aldermoor Bridge"
    assert part.text[citation.answer_start_char : citation.answer_end_char].startswith(citation.quote)
    assert [event.WhichOneof("kind") for event in recorded(events)] == [
        "started",
        "plan",
        *(["step_started", "step_ended"] * 3),
        "ended",
    ]
    assert [event.number for event in recorded(events)] == list(range(1, 10))
    assert run.usage.input_tokens + run.usage.output_tokens == 2 * TOKENS_PER_CALL


async def test_what_is_said_of_caches_goes_with_every_call_of_a_run(
    open_orchestrator: Open, router: QuotingRouter, pipeline: WordPipeline
) -> None:
    router.has_model = True
    router.plans = ["no plan", ONE_RETRIEVAL]
    async with open_orchestrator() as client:
        run = await run_of(client, task(cache_control="no-cache"))
    assert run.task.cache_control == "no-cache"
    # A plan, its repair, an analysis, the synthesis.
    assert [prompt.cache_control for prompt in router.prompts] == ["no-cache"] * 4
    assert set(pipeline.cache_controls) == {"no-cache"}


async def test_the_answers_pieces_come_before_its_end(open_orchestrator: Open, kind: str) -> None:
    async with open_orchestrator(kind) as client:
        events = await execute(client, task())
    pieces = "".join(event.delta.text for event in events if event.HasField("delta"))
    assert pieces.strip() == events[-1].ended.run.completion.message.parts[0].text.strip()


async def test_a_run_whose_first_retrieval_misses_plans_anew_and_succeeds(
    open_orchestrator: Open, pipeline: WordPipeline
) -> None:
    pipeline.floor = 0.6
    wordy = "Could you perhaps tell me in what particular year it was that the Corvane Bridge was opened?"
    async with open_orchestrator() as client:
        run = await run_of(client, task(wordy))
    assert run.stop_reason == run_pb2.STOP_REASON_DONE
    assert run.replans >= 1
    assert "1951" in run.completion.message.parts[0].text


async def test_a_run_that_cannot_succeed_stops_at_its_cap_with_a_partial_answer(
    open_orchestrator: Open, kind: str, pipeline: WordPipeline
) -> None:
    async with open_orchestrator(kind) as client:
        run = await run_of(client, task(HOPELESS))
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED
    assert run.stop_reason == run_pb2.STOP_REASON_MAX_ITERATIONS
    assert (run.iterations, run.replans) == (8, 7)
    assert len({query.lower() for query in pipeline.queries}) == len(pipeline.queries) >= 8
    assert "partial" in run.completion.message.parts[0].text


async def test_a_run_with_nothing_new_to_try_stops(open_orchestrator: Open) -> None:
    async with open_orchestrator() as client:
        run = await run_of(client, task("Marmalade?"))
    assert run.stop_reason == run_pb2.STOP_REASON_NO_PROGRESS
    assert run.iterations < 8


async def test_no_iterations_means_none(
    open_orchestrator: Open, kind: str, pipeline: WordPipeline, router: QuotingRouter
) -> None:
    async with open_orchestrator(kind) as client:
        run = await run_of(client, task(budget=generation_pb2.Budget(max_iterations=0)))
    assert run.stop_reason == run_pb2.STOP_REASON_MAX_ITERATIONS
    assert (run.iterations, pipeline.queries, dict(router.calls)) == (0, [], {})
    assert run.completion.message.parts[0].text


@pytest.mark.parametrize(
    "budget",
    [
        generation_pb2.Budget(max_tokens=TOKENS_PER_CALL),
        generation_pb2.Budget(max_cost_micro_usd=5),
        generation_pb2.Budget(max_model_calls=1),
    ],
    ids=["tokens", "cost", "calls"],
)
async def test_a_spent_budget_ends_the_run_with_what_was_found(
    open_orchestrator: Open, router: QuotingRouter, budget: generation_pb2.Budget
) -> None:
    async with open_orchestrator() as client:
        run = await run_of(client, task(budget=budget))
    assert run.stop_reason == run_pb2.STOP_REASON_BUDGET
    assert sum(router.calls.values()) == 1
    (part,) = run.completion.message.parts
    assert "1932" in part.text
    assert "budget" in part.text
    assert part.citations[0].quote in part.text


async def test_a_call_is_given_what_is_left_of_the_budget(
    open_orchestrator: Open, router: QuotingRouter
) -> None:
    async with open_orchestrator() as client:
        run = await run_of(client, task(budget=generation_pb2.Budget(max_tokens=1000, account_id="a")))
    assert [prompt.budget.max_tokens for prompt in router.prompts] == [1000, 1000 - TOKENS_PER_CALL]
    assert {prompt.budget.account_id for prompt in router.prompts} == {"a"}
    assert {prompt.run_id for prompt in router.prompts} == {run.id}
    assert list(router.calls) == [f"{run.id}/1.2", f"{run.id}/1.3"]
    assert all(prompt.models_only for prompt in router.prompts)


async def test_a_run_ends_before_its_caller_runs_out_of_time(
    open_orchestrator: Open, router: QuotingRouter
) -> None:
    router.delay_s = 60
    async with open_orchestrator() as client:
        events = await execute(client, task(), timeout_s=6)
    run = events[-1].ended.run
    assert run.stop_reason == run_pb2.STOP_REASON_DEADLINE
    assert "1932" in run.completion.message.parts[0].text


async def test_cancelling_interrupts_the_step_under_way(
    open_orchestrator: Open, kind: str, router: QuotingRouter
) -> None:
    router.delay_s = 60
    async with open_orchestrator(kind) as client:
        run = await start(client, task())
        await asyncio.wait_for(router.waiting.wait(), 10)
        await client.cancel_run(pb.CancelRunRequest(run_id=run.id), call())
        events = await asyncio.wait_for(watch(client, run.id), 5)
        again = (await client.cancel_run(pb.CancelRunRequest(run_id=run.id), call())).run
    assert router.given_up.is_set()
    ended = events[-1].ended.run
    assert (ended.state, ended.stop_reason) == (run_pb2.RUN_STATE_CANCELLED, run_pb2.STOP_REASON_CANCELLED)
    assert again == ended


async def test_a_caller_that_goes_away_cancels_its_run(
    open_orchestrator: Open, kind: str, router: QuotingRouter
) -> None:
    router.delay_s = 60
    async with open_orchestrator(kind) as client:
        stream = client.stream_execute(pb.StreamExecuteRequest(task=task()), call())
        run_id = ""
        async for response in stream:
            if response.event.HasField("step_started") and response.event.step_started.id == "1.2":
                break
        await stream.aclose()
        await asyncio.wait_for(router.given_up.wait(), 10)
        (run,) = (await client.list_runs(pb.ListRunsRequest(), call())).runs
        run_id = run.id
        events = await watch(client, run_id)
    assert events[-1].ended.run.stop_reason == run_pb2.STOP_REASON_CANCELLED


async def test_a_run_with_a_key_outlives_its_caller(open_orchestrator: Open, router: QuotingRouter) -> None:
    router.delay_s = 0.2
    async with open_orchestrator() as client:
        stream = client.stream_execute(pb.StreamExecuteRequest(task=task(), idempotency_key="once"), call())
        await anext(stream)
        await stream.aclose()
        run = await start(client, task(), key="once")
        events = await watch(client, run.id)
    assert events[-1].ended.run.stop_reason == run_pb2.STOP_REASON_DONE


async def test_the_same_key_answers_with_the_first_run(open_orchestrator: Open, kind: str) -> None:
    async with open_orchestrator(kind) as client:
        first = await start(client, task(), key="k")
        same, other = (
            await start(client, task(), key="k"),
            await start(client, task(), key="k", tenant="other"),
        )
        await watch(client, first.id)
        runs = (await client.list_runs(pb.ListRunsRequest(), call())).runs
    assert same.id == first.id != other.id
    assert [run.id for run in runs] == [first.id]


async def test_watching_begins_where_it_is_asked_to(open_orchestrator: Open, kind: str) -> None:
    async with open_orchestrator(kind) as client:
        run = await run_of(client, task())
        events = await watch(client, run.id, first=4)
        replayed = [r.event async for r in client.replay_run(pb.ReplayRunRequest(run_id=run.id), call())]
    assert [event.number for event in events] == list(range(4, 10))
    assert [event.number for event in replayed] == list(range(1, 10))


async def test_a_tenant_sees_its_own_runs_only(open_orchestrator: Open, kind: str) -> None:
    async with open_orchestrator(kind) as client:
        run = await run_of(client, task())
        assert (await client.get_run(pb.GetRunRequest(run_id=run.id), call())).run == run
        with pytest.raises(NotFound):
            await client.get_run(pb.GetRunRequest(run_id=run.id), call("other"))
        with pytest.raises(NotFound):
            await client.cancel_run(pb.CancelRunRequest(run_id=run.id), call("other"))
        with pytest.raises(NotFound):
            async for _ in client.watch_run(pb.WatchRunRequest(run_id=run.id), call("other")):
                pass
        assert not (await client.list_runs(pb.ListRunsRequest(), call("other"))).runs


async def test_runs_are_listed_newest_first_page_by_page(open_orchestrator: Open, kind: str) -> None:
    async with open_orchestrator(kind) as client:
        started = [(await run_of(client, task())).id for _ in range(3)]
        first = await client.list_runs(pb.ListRunsRequest(page_size=2), call())
        rest = await client.list_runs(
            pb.ListRunsRequest(page_size=2, page_token=first.next_page_token), call()
        )
        failed = await client.list_runs(pb.ListRunsRequest(state=run_pb2.RUN_STATE_FAILED), call())
        for token in "nonsense", base64.urlsafe_b64encode(b"1 run_\0").decode():
            with pytest.raises(InvalidArgument, match="page_token"):
                await client.list_runs(pb.ListRunsRequest(page_token=token), call())
    assert [run.id for run in [*first.runs, *rest.runs]] == started[::-1]
    assert not any(run.HasField("completion") for run in first.runs)
    assert (rest.next_page_token, list(failed.runs)) == ("", [])


async def test_runs_are_listed_by_what_they_read(open_orchestrator: Open, kind: str) -> None:
    async with open_orchestrator(kind) as client:
        tarn = await run_of(client, task(collection="tarn"))
        await run_of(client, task(collection="secret"))
        for names, seen in (["tarn", "nowhere"], [tarn.id]), (["nowhere"], []), ([], []):
            request = pb.ListRunsRequest(collections=document_pb2.CollectionFilter(names=names))
            assert [run.id for run in (await client.list_runs(request, call())).runs] == seen


async def test_too_many_runs_of_a_tenant_are_refused_with_a_time_to_retry(
    open_orchestrator: Open, kind: str, router: QuotingRouter
) -> None:
    router.delay_s = 60
    async with open_orchestrator(kind, max_runs_per_tenant=1) as client:
        await start(client, task())
        with pytest.raises(ResourceExhausted) as refused:
            await start(client, task())
        await start(client, task(), tenant="other")
    assert refused.value.reason == "TOO_MANY_RUNS"
    assert refused.value.retry_after_s


async def test_a_full_process_refuses_runs(open_orchestrator: Open, router: QuotingRouter) -> None:
    router.delay_s = 60
    async with open_orchestrator(max_runs=1) as client:
        await start(client, task())
        await asyncio.wait_for(router.waiting.wait(), 10)
        with pytest.raises(ResourceExhausted):
            await start(client, task(), tenant="other")


async def test_an_unknown_collection_fails_the_run(open_orchestrator: Open, kind: str) -> None:
    async with open_orchestrator(kind) as client:
        run = await run_of(client, task(collection="missing"))
    assert (run.state, run.stop_reason) == (run_pb2.RUN_STATE_FAILED, run_pb2.STOP_REASON_ERROR)
    assert run.error.reason == "COLLECTION_NOT_FOUND"


async def test_a_peer_that_is_away_for_a_moment_is_tried_again(
    open_orchestrator: Open, pipeline: WordPipeline
) -> None:
    pipeline.failures = [Unavailable("restarting", retry_after_s=0.01)]
    async with open_orchestrator() as client:
        run = await run_of(client, task())
    assert run.stop_reason == run_pb2.STOP_REASON_DONE
    assert len(pipeline.queries) == 2


async def test_what_is_not_offered_is_refused(open_orchestrator: Open, kind: str) -> None:
    async with open_orchestrator(kind) as client:
        with pytest.raises(InvalidArgument, match="approvals"):
            await start(client, task(approval_required=["generation"]))
        with pytest.raises(InvalidArgument, match="no text"):
            await start(client, task(" "))
        with pytest.raises(Unimplemented):
            await client.fork_run(pb.ForkRunRequest(run_id="r", from_iteration=1), call())


async def test_without_redis_the_answer_comes_whole(open_orchestrator: Open) -> None:
    async with open_orchestrator(redis_url="") as client:
        events = await execute(client, task())
    assert events == recorded(events)
    assert events[-1].ended.run.stop_reason == run_pb2.STOP_REASON_DONE


async def test_a_model_plans_where_one_is_configured(
    open_orchestrator: Open, router: QuotingRouter, pipeline: WordPipeline
) -> None:
    router.has_model = True
    router.plans = ["I would say: retrieve things", ONE_RETRIEVAL]
    async with open_orchestrator() as client:
        run = await run_of(client, task())
    assert pipeline.queries == ["Aldermoor Bridge opened"]
    assert list(router.calls)[:2] == [f"{run.id}/plan-1", f"{run.id}/repair-1"]
    assert run.stop_reason == run_pb2.STOP_REASON_DONE
    assert run.usage.model_calls == 4


async def test_a_model_that_cannot_plan_leaves_it_to_the_rules(
    open_orchestrator: Open, router: QuotingRouter, pipeline: WordPipeline
) -> None:
    router.plans = ["no", "still no"]
    async with open_orchestrator() as client:
        run = await run_of(client, task(planner="model"))
    assert pipeline.queries == [QUESTION]
    assert run.stop_reason == run_pb2.STOP_REASON_DONE
