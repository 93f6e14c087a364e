"""What the router knows of its models, as it told it at most half a minute ago."""

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quartet.router.v1 import router_pb2
from services.kit.call import Call
from services.kit.errors import QuartetError

if TYPE_CHECKING:
    from services.gateway.ports import Router

MAX_AGE_S = 30.0
RETRY_S = 1.0
"""After an attempt that failed."""
REFRESH_TIMEOUT_S = 2.0
MAX_SUCCESSIONS = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The models at one moment.

    Attributes:
        models: In the router's order.
        by_name: The same by id and by alias.
        routes: The names of its routes.
    """

    models: tuple[router_pb2.Model, ...] = ()
    by_name: Mapping[str, router_pb2.Model]
    routes: tuple[str, ...] = ()

    def find(self, name: str, now_s: float) -> router_pb2.Model | None:
        """The model that serves under an id or alias: past its shutdown a model's successor does."""
        model = self.by_name.get(name)
        for _ in range(MAX_SUCCESSIONS):
            if model is None or not model.successor or not model.HasField("shutdown_time"):
                break
            if model.shutdown_time.seconds > now_s:
                break
            model = self.by_name.get(model.successor, model)
        return model


NOTHING = Listing(by_name={})


class Models:
    """The router's models, kept so that no request has to ask for them.

    The first who asks waits for the router; later, what is too old is still served while it is asked again.
    While the router does not answer, what it said before stands; before it ever answered there is nothing.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        router: "Router",
        *,
        max_age_s: float = MAX_AGE_S,
        retry_s: float = RETRY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._router = router
        self._max_age_s = max_age_s
        self._retry_s = retry_s
        self._clock = clock
        self._listing: Listing | None = None
        self._due_s = float("-inf")
        self._refreshing: asyncio.Task[None] | None = None

    async def find(self, name: str) -> router_pb2.Model | None:
        """The model that serves under a name, as far as known; see `Listing.find`."""
        return (await self.listing()).find(name, time.time())

    async def listing(self) -> Listing:
        """All of it; empty when the router has never answered."""
        if self._clock() >= self._due_s:
            self._begin()
        if self._listing is None and self._refreshing is not None:
            await asyncio.wait({self._refreshing})
        return self._listing or NOTHING

    async def close(self) -> None:
        """Gives up asking."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait({self._refreshing})

    def _begin(self) -> None:
        if self._refreshing is None:
            # In a context of its own: it is nobody's request, and so part of nobody's trace.
            self._refreshing = asyncio.create_task(self._refresh(), context=contextvars.Context())

    async def _refresh(self) -> None:
        try:
            call = Call.root(timeout_s=REFRESH_TIMEOUT_S)
            listed = await self._router.list_models(router_pb2.ListModelsRequest(), call)
            by_name = {name: model for model in listed.models for name in (model.id, *model.aliases)}
            self._listing = Listing(models=tuple(listed.models), by_name=by_name, routes=tuple(listed.routes))
            self._due_s = self._clock() + self._max_age_s
        except QuartetError as error:
            self._due_s = self._clock() + self._retry_s
            log.warning("the router does not tell its models: %s", error.message)
        finally:
            self._refreshing = None
