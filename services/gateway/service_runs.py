from quartet.gateway.v1 import run_pb2 as outer
from quartet.orchestrator.v1 import orchestrator_pb2 as inner
from services.gateway.adapters.twins import PassThrough
from services.gateway.domain.front import Front
from services.gateway.ports import Orchestrator


class RunService:
    """`quartet.gateway.v1.RunService`: admits calls and hands them to the orchestrator."""

    def __init__(self, front: Front, orchestrator: Orchestrator) -> None:
        hand = PassThrough(front)
        self.start_run = hand.unary(
            "StartRun",
            orchestrator.start_run,
            inner.StartRunRequest,
            outer.StartRunResponse,
            collection_of=lambda request: request.task.collection,
        )
        self.get_run = hand.unary("GetRun", orchestrator.get_run, inner.GetRunRequest, outer.GetRunResponse)
        self.list_runs = hand.unary(
            "ListRuns", orchestrator.list_runs, inner.ListRunsRequest, outer.ListRunsResponse
        )
        self.watch_run = hand.stream(
            "WatchRun", orchestrator.watch_run, inner.WatchRunRequest, outer.WatchRunResponse
        )
        self.cancel_run = hand.unary(
            "CancelRun", orchestrator.cancel_run, inner.CancelRunRequest, outer.CancelRunResponse, gated=False
        )
