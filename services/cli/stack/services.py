from __future__ import annotations

import asyncio
import functools
import sys
from typing import TYPE_CHECKING

import yaml
from grpc_health.v1 import health_pb2  # type: ignore[import-untyped]

from services.cli.settings import SERVICES, inherited_environment
from services.cli.stack.ports import LOOPBACK
from services.cli.stack.process import Command
from services.cli.stack.supervisor import Program
from services.kit.call import Call
from services.kit.client import Channel, remote
from services.kit.errors import QuartetError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from services.cli.settings import StackSettings

# The call graph: each service may call those that stand below it.
PEERS: Mapping[str, tuple[str, ...]] = {
    "router": (),
    "pipeline": ("router",),
    "orchestrator": ("router", "pipeline"),
    "gateway": ("router", "pipeline", "orchestrator"),
}
DRAIN_S = 20.0
PROVIDER_PREFIXES = ("OPENAI_", "ANTHROPIC_", "AZURE_", "AWS_", "GOOGLE_")


def group_services(colocate: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The processes to run, callees first: one service each, except for those that share one."""
    shared = tuple(name for name in SERVICES if name in colocate)
    groups: list[tuple[str, ...]] = []
    for name in SERVICES:
        if name not in shared:
            groups.append((name,))
        elif name == shared[-1]:
            groups.append(shared)
    return groups


def describe_service_programs(settings: StackSettings, database_url: str, redis_url: str) -> list[Program]:
    """A program for each service process, in the order in which they are to start."""
    environment = service_environment(settings, database_url, redis_url)
    bare = without_providers(environment, settings.config_dir / "models.yaml")
    programs: list[Program] = []
    for names in group_services(settings.colocate):
        addresses = [service_address(settings, name) for name in names]
        programs.append(
            Program(
                name="+".join(names),
                command=Command(
                    arguments=(sys.executable, "-m", "services.cli", "serve", *names),
                    environment=environment if "router" in names else bare,
                    stop_grace_s=DRAIN_S,
                ),
                is_ready=functools.partial(_all_serve, addresses),
                ready_timeout_s=settings.ready_timeout_s,
            )
        )
    return programs


def service_environment(settings: StackSettings, database_url: str, redis_url: str) -> dict[str, str]:
    """Our environment, with every service's own address and its peers', and the stores."""
    environment = inherited_environment()
    environment.update(
        DATABASE_URL=database_url,
        REDIS_URL=redis_url,
        PYTHONUNBUFFERED="1",
        QUARTET_HOME=str(settings.home),
        # The router refuses the suite's own edge as a model provider.
        QUARTET_EDGE_PORT=str(settings.edge_port),
    )
    if settings.otlp_endpoint:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = settings.otlp_endpoint
    for name, peers in PEERS.items():
        environment[f"{name.upper()}_HOST"] = LOOPBACK
        environment[f"{name.upper()}_PORT"] = str(settings.port_of(name))
        for peer in peers:
            environment[f"{name.upper()}_{peer.upper()}_ADDRESS"] = service_address(settings, peer)
    return environment


def without_providers(environment: Mapping[str, str], models_file: Path) -> dict[str, str]:
    """What services that call no provider get: the router alone holds the providers' keys.

    They are known by the vendors' and the clouds' prefixes, and by what the servers in `models.yaml` name.
    """
    named = _named_variables(models_file)
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(PROVIDER_PREFIXES) and name.removesuffix("_FILE") not in named
    }


def _named_variables(models_file: Path) -> set[str]:
    try:
        content = yaml.safe_load(models_file.read_text(encoding="utf-8"))
        servers = content["servers"]
        return {
            str(value) for server in servers for key, value in server.items() if key.endswith("_variable")
        }
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return set()  # the router, which reads it whole, says what is wrong with it


def service_address(settings: StackSettings, name: str) -> str:
    """Where a service listens: host:port on the loopback."""
    return f"{LOOPBACK}:{settings.port_of(name)}"


async def _all_serve(addresses: list[str]) -> bool:
    for address in addresses:
        if not await _listens(address) or not await _serves(address):
            return False
    return True


async def _listens(address: str) -> bool:
    """Asked before anything dearer, since a starting service is asked many times."""
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True


async def _serves(address: str) -> bool:
    channel = Channel(address)
    try:
        health = remote("grpc.health.v1.Health", channel)
        answer = await health.check(health_pb2.HealthCheckRequest(), Call.root(timeout_s=1.0))
    except QuartetError:
        return False
    finally:
        await channel.close()
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
