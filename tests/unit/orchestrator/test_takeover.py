from typing import TYPE_CHECKING, cast

from services.kit.errors import NotFound
from services.orchestrator.adapters.dbos.takeover import Takeover

if TYPE_CHECKING:
    from services.orchestrator.adapters.dbos.engine import DbosExecutor
    from services.orchestrator.adapters.postgres.executors import PostgresExecutors


class Rows:
    """Two runs of this process; the first is removed at this very moment."""

    async def beat(self) -> None:
        pass

    async def own_runs(self, limit: int) -> list[str]:
        return ["gone", "stored"][:limit]


class Adopting:
    def __init__(self) -> None:
        self.adopted: list[str] = []

    def carries_out(self, run_id: str) -> bool:
        return False

    async def adopt(self, run_id: str) -> None:
        if run_id == "gone":
            raise NotFound("there is no run gone")
        self.adopted.append(run_id)


async def test_a_run_that_is_gone_costs_neither_the_others_nor_the_heartbeat() -> None:
    executor = Adopting()
    takeover = Takeover(
        cast("PostgresExecutors", Rows()), cast("DbosExecutor", executor), interval_s=1, silent_after_s=1
    )
    await takeover.begin()
    assert executor.adopted == ["stored"]
