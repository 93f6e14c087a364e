import pytest

from services.kit.errors import Unavailable
from services.orchestrator.adapters.postgres.runs import PostgresRuns, open_pool

NOBODY = "postgresql://nobody@127.0.0.1:1/nothing"


async def test_callers_are_told_that_the_database_is_away() -> None:
    async with open_pool(NOBODY, max_size=2, timeout_s=0.01) as pool:
        store = PostgresRuns(pool, max_runs_per_tenant=1)
        with pytest.raises(Unavailable) as refused:
            await store.get("acme", "run_1")
    assert refused.value.reason == "DATABASE_UNREACHABLE"
    assert refused.value.retry_after_s
