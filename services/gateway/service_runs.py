from contextlib import AbstractAsyncContextManager
from typing import Any

from quartet.gateway.v1 import run_pb2 as outer
from quartet.orchestrator.v1 import orchestrator_pb2 as inner
from services.gateway.adapters.twins import PassThrough
from services.gateway.domain.admission import Caller
from services.gateway.domain.front import Front
from services.gateway.domain.targets import DEFAULT_COLLECTION
from services.gateway.ports import Orchestrator
from services.kit.call import Call


class RunService:
    """`quartet.gateway.v1.RunService`: admits calls and hands them to the orchestrator."""

    def __init__(self, front: Front, orchestrator: Orchestrator) -> None:
        hand = PassThrough(front)

        def admit(caller: Caller, asked: inner.StartRunRequest) -> AbstractAsyncContextManager[None]:
            asked.task.collection = asked.task.collection or DEFAULT_COLLECTION
            asked.task.cache_control = asked.task.cache_control or caller.options.cache_control
            return front.quotas.admit_run(caller, asked.task)

        async def look_up(request: Any, call: Call) -> str:
            found = await orchestrator.get_run(inner.GetRunRequest(run_id=request.run_id), call)
            return found.run.task.collection

        self.start_run = hand.unary(
            "StartRun",
            orchestrator.start_run,
            inner.StartRunRequest,
            outer.StartRunResponse,
            collection_of=lambda request: request.task.collection,
            within=admit,
        )
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
