from typing import Any

from quartet.common.v1 import message_pb2, run_pb2
from quartet.orchestrator.v1 import orchestrator_pb2 as pb

from services.kit.call import Call
from tests.contract.orchestrator.conftest import Open


def call(tenant: str = "acme") -> Call:
    return Call.root(timeout_s=30, tenant=tenant)


def task(question: str, **fields: Any) -> run_pb2.Task:
    message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=question)])
    return run_pb2.Task(messages=[message], **fields)


async def execute(client: Any, wanted: run_pb2.Task, key: str = "") -> list[run_pb2.RunEvent]:
    request = pb.StreamExecuteRequest(task=wanted, idempotency_key=key)
    return [response.event async for response in client.stream_execute(request, call())]


def recorded(events: list[run_pb2.RunEvent]) -> list[run_pb2.RunEvent]:
    return [event for event in events if event.number]


async def test_a_run_plans_acts_and_answers_with_citations(open_orchestrator: Open, kind: str) -> None:
    async with open_orchestrator(kind) as client:
        events = await execute(client, task("When was the Aldermoor Bridge opened?"))
    run = events[-1].ended.run
    assert run.state == run_pb2.RUN_STATE_SUCCEEDED
    assert run.stop_reason == run_pb2.STOP_REASON_DONE
    (part,) = run.completion.message.parts
    assert "1932" in part.text
    assert part.citations[0].document_id == "Aldermoor Bridge"
    assert [event.number for event in recorded(events)] == list(range(1, len(recorded(events)) + 1))
