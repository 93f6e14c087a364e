import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from services.kit.serving import Binding
from services.kit.testing import serve
from tests.contract.cli.edge import Edge, FakeDocuments, FakeGateway, FakeRuns, FakeUsage


@pytest_asyncio.fixture
async def edge() -> AsyncIterator[Edge]:
    edge = Edge()
    bindings = (
        Binding("quartet.gateway.v1.GatewayService", FakeGateway(edge), public=True),
        Binding("quartet.gateway.v1.DocumentService", FakeDocuments(edge), public=True),
        Binding("quartet.gateway.v1.RunService", FakeRuns(edge), public=True),
        Binding("quartet.gateway.v1.KeyService", FakeUsage(edge), public=True),
    )
    async with serve(*bindings) as server:
        edge.address = server.address
        yield edge


@pytest.fixture
def closed_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
