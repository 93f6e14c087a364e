"""The end of all runs of a tenant that goes."""

import asyncio
import time

from services.kit.errors import Unavailable
from services.orchestrator.ports import Executor, RunStore

BATCH = 100
STOP_TIMEOUT_S = 15.0
LOOK_S = 0.2


class Removal:
    """Removes tenants' runs; those under way are cancelled, and end by themselves before they go.

    Args:
        stop_timeout_s: How long it waits for that.
    """

    def __init__(
        self, store: RunStore, executor: Executor, *, stop_timeout_s: float = STOP_TIMEOUT_S
    ) -> None:
        self._store = store
        self._executor = executor
        self._stop_timeout_s = stop_timeout_s

    async def remove(self, tenant: str) -> int:
        """The number of runs that went; raises Unavailable while some do not end, and may be repeated."""
        until = time.monotonic() + self._stop_timeout_s
        while under_way := await self._store.cancel_all(tenant):
            if time.monotonic() > until:
                raise Unavailable(
                    f"{under_way} runs of the tenant have not stopped yet: delete it again in a moment",
                    reason="RUNS_UNDER_WAY",
                    metadata={"count": str(under_way)},
                    retry_after_s=5.0,
                )
            await asyncio.sleep(LOOK_S)
        deleted = 0
        while run_ids := await self._store.ended(tenant, limit=BATCH):
            # By the store's rows what else is kept of them is found again: they go last.
            await self._executor.forget(run_ids)
            await self._store.delete(run_ids)
            deleted += len(run_ids)
        return deleted
