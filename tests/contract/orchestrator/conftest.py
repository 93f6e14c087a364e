from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest

from services.kit.testing import KINDS, client_of
from services.orchestrator.settings import Settings
from services.orchestrator.wiring import ORCHESTRATOR, PIPELINE, ROUTER, build
from tests.contract.orchestrator.peers import QuotingRouter, WordPipeline

CORPUS = {
    "Aldermoor Bridge": "The Aldermoor Bridge was opened in 1932 and crosses the river Tarn.",
    "Corvane Bridge": "The Corvane Bridge was opened in 1951 after nine years of work.",
    "Tarn": "The river Tarn rises in the Vellan hills and reaches the sea at Orrin.",
}


class Open(Protocol):
    def __call__(self, kind: str = "local", **settings: Any) -> AbstractAsyncContextManager[Any]: ...


@pytest.fixture
def router() -> QuotingRouter:
    return QuotingRouter()


@pytest.fixture
def pipeline() -> WordPipeline:
    return WordPipeline(CORPUS)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def open_orchestrator(
    router: QuotingRouter, pipeline: WordPipeline, database_url: str, redis_url: str
) -> Open:
    """Opens a client of an orchestrator whose neighbours are the two above."""

    @asynccontextmanager
    async def opened(kind: str = "local", **settings: Any) -> AsyncIterator[Any]:
        stores = {"database_url": database_url, "redis_url": redis_url}
        chosen = Settings(executor_id="test", **{**stores, **settings})
        async with (
            build(chosen, {ROUTER: router, PIPELINE: pipeline}) as (binding,),
            client_of(kind, ORCHESTRATOR, binding.service) as client,
        ):
            yield client

    return opened
