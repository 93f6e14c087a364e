import json
import urllib.error
import urllib.request
from asyncio import to_thread
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from quartet.gateway.v1 import gateway_pb2
from services.cli.settings import StackSettings
from services.cli.stack.envoy import describe_envoy
from services.cli.stack.ports import assign_ports
from services.cli.stack.process import ProcessRoom
from services.cli.stack.supervisor import StackError, Supervisor
from services.kit.binding import Binding
from services.kit.call import Call
from services.kit.testing import serve


class OneModel:
    """A gateway that knows one model."""

    async def list_models(
        self, request: gateway_pb2.ListModelsRequest, call: Call
    ) -> gateway_pb2.ListModelsResponse:
        return gateway_pb2.ListModelsResponse(models=[gateway_pb2.Model(id="local/extractive")])


@pytest.fixture
async def supervisor(tmp_path: Path) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(ProcessRoom.within(tmp_path / "home"), say=print)
    yield supervisor
    await supervisor.stop()


def settings(home: Path, **values: object) -> StackSettings:
    given = {"home": home, "edge_port": 0, "envoy_admin_port": 0, **values}
    return assign_ports(StackSettings.model_validate(given), ("edge", "envoy_admin"))


def get(url: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


async def test_the_edge_is_ready_once_the_gateway_serves_behind_it(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    async with serve(Binding("quartet.gateway.v1.GatewayService", OneModel())) as gateway:
        edge = settings(tmp_path / "home", gateway_port=gateway.port)
        await supervisor.start(describe_envoy(edge))
        url = f"http://127.0.0.1:{edge.edge_port}"
        assert (await to_thread(get, f"{url}/healthz"))[0] == 200
        status, body = await to_thread(get, f"{url}/api/v1/models")
        assert status == 200
        assert json.loads(body)["models"][0]["id"] == "local/extractive"
        assert (await to_thread(get, f"{url}/nowhere"))[0] == 404


async def test_the_edge_is_not_ready_without_a_gateway(tmp_path: Path, supervisor: Supervisor) -> None:
    alone = settings(tmp_path / "home", gateway_port=1, ready_timeout_s=1.5)
    with pytest.raises(StackError, match="envoy was not ready within"):
        await supervisor.start(describe_envoy(alone))
