import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.settings import StackSettings
from services.cli.stack.ports import LOOPBACK, PARTS, assign_ports, find_free_ports, find_obstacle
from services.cli.stack.supervisor import StackError


def settings(home: Path, **values: object) -> StackSettings:
    """Settings in which every port is any free one, but for those given."""
    return StackSettings.model_validate({"home": home, **{f"{part}_port": 0 for part in PARTS}, **values})


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def test_a_listening_port_is_not_free(taken_port: int) -> None:
    assert find_obstacle(LOOPBACK, taken_port).startswith("is taken")
    (free,) = find_free_ports(1, avoid=set())
    assert not find_obstacle(LOOPBACK, free)


def test_an_address_that_is_not_this_machine_s_is_no_taken_port(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"Port 8080 for the edge cannot be listened on at 192\.0\.2\.1 "):
        assign_ports(settings(tmp_path, edge_host="192.0.2.1", edge_port=8080))


@pytest.mark.parametrize("host", ["localhost", "::1", "127.0.0", ""])
def test_the_edge_s_address_is_one_that_envoy_takes(tmp_path: Path, host: str) -> None:
    with pytest.raises(ValueError, match="write an IPv4 address"):
        settings(tmp_path, edge_host=host)


def test_a_taken_port_is_named_with_the_setting_that_moves_it(tmp_path: Path, taken_port: int) -> None:
    with pytest.raises(
        StackError,
        match=rf"{taken_port} for the router is taken by .*process {os.getpid()}.* QUARTET_ROUTER_",
    ):
        assign_ports(settings(tmp_path, router_port=taken_port))


def test_a_port_given_to_two_parts_is_refused(tmp_path: Path) -> None:
    (port,) = find_free_ports(1, avoid=set())
    with pytest.raises(StackError, match="QUARTET_EDGE_PORT and QUARTET_GATEWAY_PORT name the same port"):
        assign_ports(settings(tmp_path, edge_port=port, gateway_port=port))


def test_a_port_of_0_becomes_a_free_port_of_its_own(tmp_path: Path) -> None:
    assigned = assign_ports(settings(tmp_path))
    ports = {assigned.port_of(part) for part in PARTS}
    assert len(ports) == len(PARTS)
    assert 0 not in ports


def test_the_port_of_a_store_that_runs_elsewhere_is_not_looked_at(tmp_path: Path, taken_port: int) -> None:
    url = "postgresql://elsewhere/quartet"
    assigned = assign_ports(settings(tmp_path, database_url=url, postgres_port=taken_port))
    assert assigned.postgres_port == taken_port


def test_only_the_ports_of_the_parts_that_are_asked_for_are_looked_at(
    tmp_path: Path, taken_port: int
) -> None:
    assigned = assign_ports(settings(tmp_path, edge_port=taken_port), ("redis",))
    assert assigned.redis_port != 0
    assert assigned.postgres_port == 0
