import asyncio

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan

from quartet.orchestrator.v1 import orchestrator_pb2 as pb
from services.kit import telemetry
from services.kit.settings import KitSettings
from services.kit.testing import receive_otlp
from services.kit.tracing import extract
from tests.contract.orchestrator.conftest import Open
from tests.contract.orchestrator.test_runs import QUESTION, call, task

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLER = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}


async def test_a_runs_spans_are_in_its_callers_trace(open_orchestrator: Open) -> None:
    async with receive_otlp() as receiver:
        sending = telemetry.configure("orchestrator", KitSettings(otlp_endpoint=receiver.endpoint))
        caller = extract(CALLER)
        assert caller is not None
        with trace.use_span(NonRecordingSpan(caller)):
            async with open_orchestrator("remote") as client:
                async for _ in client.stream_execute(pb.StreamExecuteRequest(task=task(QUESTION)), call()):
                    pass
        await asyncio.to_thread(sending.flush)
        spans = {span.name: span for span in receiver.trace(TRACE_ID)}
        await asyncio.to_thread(sending.shutdown)
        telemetry.reset()
    agent = spans["invoke_agent quartet"]
    served = spans["quartet.orchestrator.v1.OrchestratorService/StreamExecute"]
    assert agent.parent_id == served.span_id
    for name in ("plan quartet", "execute_tool retrieval", "execute_tool analysis", "execute_tool synthesis"):
        assert spans[name].parent_id == agent.span_id, name
    retrieve = spans["quartet.pipeline.v1.PipelineService/Retrieve"]
    assert retrieve.parent_id == spans["execute_tool retrieval"].span_id
