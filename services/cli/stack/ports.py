from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from services.cli.settings import SERVICES, port_variable
from services.cli.stack.listeners import describe_listener
from services.cli.stack.supervisor import StackError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.cli.settings import StackSettings

LOOPBACK = "127.0.0.1"
PARTS = ("edge", "envoy_admin", *SERVICES, "postgres", "redis")


def assign_ports(settings: StackSettings, parts: Sequence[str] = PARTS) -> StackSettings:
    """Settings in which the ports of these parts are free and none is 0.

    Raises:
        StackError: ports are taken or cannot be had, or given to two parts; it names each with its setting.
    """
    elsewhere = {"postgres": settings.database_url, "redis": settings.redis_url}
    names = [name for name in parts if not elsewhere.get(name)]
    hosts = {name: settings.edge_host if name == "edge" else LOOPBACK for name in names}
    fixed = [name for name in names if settings.port_of(name)]
    problems = [
        f"Port {settings.port_of(name)} for the {name.replace('_', ' ')} {obstacle}, "
        f"or set {port_variable(name)}."
        for name in fixed
        if (obstacle := find_obstacle(hosts[name], settings.port_of(name)))
    ]
    chosen: dict[int, str] = {}
    for name in fixed:
        other = chosen.setdefault(settings.port_of(name), name)
        if other != name:
            problems.append(f"{port_variable(other)} and {port_variable(name)} name the same port.")
    if problems:
        raise StackError("\n".join(problems))
    free = [name for name in names if not settings.port_of(name)]
    ports = find_free_ports(len(free), avoid=set(chosen))
    return settings.model_copy(update={f"{name}_port": port for name, port in zip(free, ports, strict=True)})


def find_obstacle(host: str, port: int) -> str:
    """Why a server could not listen on the port now, and what to do; empty where it could.

    Remains of closed connections do not count.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except PermissionError:
            return "is for the administrator alone: run as root"
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                taker = describe_listener(port)
                return f"is taken by {taker}: stop it" if taker else "is taken: stop who listens there"
            return f"cannot be listened on at {host} ({error.strerror}): use an address of this machine"
        return ""


def find_free_ports(count: int, *, avoid: set[int]) -> list[int]:
    """Different ports that are free on the loopback at this moment."""
    probes: list[socket.socket] = []
    ports: list[int] = []
    try:
        while len(ports) < count:
            probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            probes.append(probe)
            probe.bind((LOOPBACK, 0))
            if (port := probe.getsockname()[1]) not in avoid:
                ports.append(port)
        return ports
    finally:
        for probe in probes:
            probe.close()
