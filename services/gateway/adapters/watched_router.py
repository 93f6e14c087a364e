"""The router as the gateway calls it, each call telling the capacity how the router does."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import TypeVar

from quartet.router.v1 import router_pb2 as pb
from services.gateway.domain.capacity import Capacity
from services.gateway.ports import Router
from services.kit.call import Call
from services.kit.errors import QuartetError

OVERLOAD = frozenset({"OVERLOADED", "PEER_UNREACHABLE"})
"""Reasons that speak of the router itself; a provider's troubles are the router's to deal with."""

T = TypeVar("T")


class WatchedRouter:
    """A router that is measured.

    A stream whose first event is late counts as overload at the moment when it is due, so that a router
    that hangs is seen before any of its calls ends. A caller's own short deadline never counts.

    Args:
        first_event_s: When a stream's first event is due.
    """

    def __init__(self, router: Router, capacity: Capacity, *, first_event_s: float) -> None:
        self._router = router
        self._capacity = capacity
        self._first_event_s = first_event_s

    async def route(self, request: pb.RouteRequest, call: Call) -> pb.RouteResponse:
        return await self._watch(self._router.route(request, call))

    async def generate(self, request: pb.GenerateRequest, call: Call) -> pb.GenerateResponse:
        return await self._watch(self._router.generate(request, call))

    async def stream_generate(
        self, request: pb.StreamGenerateRequest, call: Call
    ) -> AsyncGenerator[pb.StreamGenerateResponse]:
        late = asyncio.get_running_loop().call_later(self._first_event_s, self._note_overload)
        waiting = True
        try:
            async with aclosing(self._router.stream_generate(request, call)) as responses:
                async for response in responses:
                    if waiting:
                        waiting = False
                        late.cancel()
                        self._note_in_time(late)
                    yield response
        except QuartetError as error:
            if waiting and error.reason in OVERLOAD:
                self._note_overload()
            raise
        finally:
            late.cancel()

    async def embed(self, request: pb.EmbedRequest, call: Call) -> pb.EmbedResponse:
        return await self._watch(self._router.embed(request, call))

    async def list_models(self, request: pb.ListModelsRequest, call: Call) -> pb.ListModelsResponse:
        return await self._watch(self._router.list_models(request, call))

    async def record_outcome(self, request: pb.RecordOutcomeRequest, call: Call) -> pb.RecordOutcomeResponse:
        return await self._watch(self._router.record_outcome(request, call))

    async def compare_policies(
        self, request: pb.ComparePoliciesRequest, call: Call
    ) -> pb.ComparePoliciesResponse:
        return await self._watch(self._router.compare_policies(request, call))

    async def delete_tenant_data(
        self, request: pb.DeleteTenantDataRequest, call: Call
    ) -> pb.DeleteTenantDataResponse:
        return await self._router.delete_tenant_data(request, call)

    async def _watch(self, answer: Awaitable[T]) -> T:
        try:
            response = await answer
        except QuartetError as error:
            if error.reason in OVERLOAD:
                self._note_overload()
            raise
        self._capacity.note(is_overload=False)
        return response

    def _note_in_time(self, late: asyncio.TimerHandle) -> None:
        if late.when() > asyncio.get_running_loop().time():
            self._capacity.note(is_overload=False)

    def _note_overload(self) -> None:
        self._capacity.note(is_overload=True)
