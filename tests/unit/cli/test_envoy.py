import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.cli.settings import StackSettings
from services.cli.stack.envoy import (
    certify,
    find_installed,
    render_envoy,
    render_listener,
    validate_envoy,
)
from services.cli.stack.supervisor import StackError


def render(target: Path, **values: object) -> Any:
    settings = StackSettings.model_validate({"home": target, **values})
    return json.loads(render_envoy(settings, target).read_text())


def connections_of(bootstrap: Any) -> Any:
    (listener,) = bootstrap["static_resources"]["listeners"]
    filters = {entry["name"]: entry["typed_config"] for entry in listener["filter_chains"][0]["filters"]}
    return filters["envoy.filters.network.http_connection_manager"]


def test_the_edge_and_its_admin_listen_where_the_settings_say(tmp_path: Path) -> None:
    bootstrap = render(tmp_path, edge_port=18080, envoy_admin_port=19901)
    (listener,) = bootstrap["static_resources"]["listeners"]
    assert listener["address"] == {"socket_address": {"address": "127.0.0.1", "port_value": 18080}}
    assert bootstrap["admin"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 19901}


def test_the_gateway_is_found_at_its_port(tmp_path: Path) -> None:
    (gateway,) = render(tmp_path, gateway_port=15051)["static_resources"]["clusters"]
    (endpoint,) = gateway["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"]["port_value"] == 15051


def test_every_client_gets_the_rate_of_the_settings(tmp_path: Path) -> None:
    filters = connections_of(render(tmp_path, client_rps=7))["http_filters"]
    (rate,) = [entry for entry in filters if entry["name"] == "envoy.filters.http.local_ratelimit"]
    buckets = [descriptor["token_bucket"] for descriptor in rate["typed_config"]["descriptors"]]
    assert {bucket["max_tokens"] for bucket in buckets} == {7}
    assert rate["typed_config"]["token_bucket"]["max_tokens"] > 7


def test_without_a_collector_nothing_is_traced(tmp_path: Path) -> None:
    bootstrap = render(tmp_path)
    assert "tracing" not in connections_of(bootstrap)
    assert [cluster["name"] for cluster in bootstrap["static_resources"]["clusters"]] == ["gateway"]


def test_spans_go_to_the_collector_of_the_services(tmp_path: Path) -> None:
    bootstrap = render(tmp_path, otlp_endpoint="http://collector.local:14317")
    assert "tracing" in connections_of(bootstrap)
    (collector,) = [c for c in bootstrap["static_resources"]["clusters"] if c["name"] == "otlp"]
    (endpoint,) = collector["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"] == {
        "address": "collector.local",
        "port_value": 14317,
    }


def test_envoy_accepts_what_is_rendered_and_says_what_it_does_not(tmp_path: Path) -> None:
    settings = StackSettings.model_validate({"home": tmp_path, "otlp_endpoint": "http://127.0.0.1:4317"})
    configuration = render_envoy(settings, tmp_path)
    validate_envoy(configuration)
    configuration.write_text(configuration.read_text().replace("convert_grpc_status", "no_such_field"))
    with pytest.raises(StackError, match="no_such_field"):
        validate_envoy(configuration)


def secured(tmp_path: Path, **values: object) -> StackSettings:
    given = {"home": tmp_path, "tls": True, "cors_origins": "https://app.example", **values}
    return certify(StackSettings.model_validate(given))[0]


def test_without_the_setting_there_is_neither_tls_nor_cors(tmp_path: Path) -> None:
    bootstrap = render(tmp_path)
    (listener,) = bootstrap["static_resources"]["listeners"]
    assert "transport_socket" not in listener["filter_chains"][0]
    (public,) = connections_of(bootstrap)["route_config"]["virtual_hosts"]
    assert "typed_per_filter_config" not in public


def test_given_certificates_are_used_and_others_made(tmp_path: Path) -> None:
    assert secured(tmp_path).tls_cert == tmp_path / "tls" / "server.pem"
    own = secured(tmp_path, tls_cert="/own/cert.pem", tls_key="/own/key.pem")
    assert (own.tls_cert, own.tls_key) == (Path("/own/cert.pem"), Path("/own/key.pem"))


@pytest.mark.parametrize("asks", [False, True])
def test_envoy_accepts_tls_and_mtls(tmp_path: Path, asks: bool) -> None:
    own = secured(tmp_path, **({"tls_client_ca": tmp_path / "tls" / "ca.pem"} if asks else {}))
    validate_envoy(render_envoy(own, tmp_path))


def test_the_clusters_listener_gets_the_settings_and_stays_as_it_is_without(tmp_path: Path) -> None:
    source = find_installed("k8s/base/envoy", "envoy") / "listener.yaml"
    shipped = yaml.safe_load(source.read_text(encoding="utf-8"))
    assert yaml.safe_load(render_listener(StackSettings(home=tmp_path))) == shipped
    (listener,) = yaml.safe_load(render_listener(secured(tmp_path)))["resources"]
    assert listener["filter_chains"][0].pop("transport_socket")
    (public,) = connections_of({"static_resources": {"listeners": [listener]}})["route_config"][
        "virtual_hosts"
    ]
    assert public.pop("typed_per_filter_config")
    assert listener == shipped["resources"][0]
