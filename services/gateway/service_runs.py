from typing import Any

from quartet.gateway.v1 import run_pb2 as outer
from quartet.orchestrator.v1 import orchestrator_pb2 as inner
from services.gateway.adapters.twins import PassThrough, collection_target, convert
from services.gateway.domain.front import Front
from services.gateway.ports import Orchestrator
from services.kit.call import Call


class RunService:
    """`quartet.gateway.v1.RunService`: admits calls and hands them to the orchestrator."""

    def __init__(self, front: Front, orchestrator: Orchestrator) -> None:
        self._front = front
        self._orchestrator = orchestrator
        hand = PassThrough(front)

        async def look_up(request: Any, call: Call) -> str:
            found = await orchestrator.get_run(inner.GetRunRequest(run_id=request.run_id), call)
            return found.run.task.collection

        self.get_run = hand.unary(
            "GetRun", orchestrator.get_run, inner.GetRunRequest, outer.GetRunResponse, look_up=look_up
        )
        self.list_runs = hand.unary(
            "ListRuns", orchestrator.list_runs, inner.ListRunsRequest, outer.ListRunsResponse, lists=True
        )
        self.watch_run = hand.stream(
            "WatchRun", orchestrator.watch_run, inner.WatchRunRequest, outer.WatchRunResponse, look_up=look_up
        )
        self.cancel_run = hand.unary(
            "CancelRun",
            orchestrator.cancel_run,
            inner.CancelRunRequest,
            outer.CancelRunResponse,
            look_up=look_up,
            gated=False,
        )

    async def start_run(self, request: outer.StartRunRequest, call: Call) -> outer.StartRunResponse:
        caller = await self._front.enter(call, "StartRun")
        inner_request = convert(request, inner.StartRunRequest)
        target = collection_target(request.task.collection)
        target.check_scope(caller.key)
        inner_request.task.collection = target.collection
        with self._front.hold(caller):
            async with self._front.quotas.admit_run(caller, inner_request.task):
                response = await self._orchestrator.start_run(inner_request, caller.outgoing())
        return convert(response, outer.StartRunResponse)
