from pathlib import Path

import pytest

from services.cli.settings import StackSettings, check_names
from services.cli.stack.services import (
    describe_service_programs,
    group_services,
    service_environment,
    without_providers,
)
from services.kit.settings import SettingsError


@pytest.fixture
def settings(tmp_path: Path) -> StackSettings:
    return StackSettings.model_validate({"home": tmp_path})


def test_each_service_is_a_process_of_its_own_and_callees_come_first() -> None:
    assert group_services(()) == [("router",), ("pipeline",), ("orchestrator",), ("gateway",)]


def test_a_shared_process_starts_when_the_peers_of_its_last_service_are_up() -> None:
    assert group_services(("gateway", "router")) == [("pipeline",), ("orchestrator",), ("router", "gateway")]


def test_colocated_services_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTET_COLOCATE", "gateway, router")
    assert StackSettings.load().colocate == ("gateway", "router")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("pipeline,orchestrator", "one DBOS runtime"),
        ("gateway,ruoter", "unknown service ruoter"),
        ("router,router", "named twice"),
    ],
)
def test_services_that_cannot_share_a_process_are_refused(
    monkeypatch: pytest.MonkeyPatch, value: str, complaint: str
) -> None:
    monkeypatch.setenv("QUARTET_COLOCATE", value)
    with pytest.raises(SettingsError, match=f"QUARTET_COLOCATE.*{complaint}"):
        StackSettings.load()


def test_a_set_with_one_durable_service_may_share_a_process() -> None:
    check_names(("gateway", "router", "orchestrator"))


def test_the_default_home_is_an_absolute_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("QUARTET_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert StackSettings.load().home == tmp_path / ".quartet"


def test_services_are_told_their_own_address_and_those_of_their_peers(settings: StackSettings) -> None:
    environment = service_environment(settings, "postgresql://db", "redis://cache")
    assert environment["DATABASE_URL"] == "postgresql://db"
    assert environment["REDIS_URL"] == "redis://cache"
    assert environment["QUARTET_EDGE_PORT"] == "8080"
    assert (environment["ROUTER_HOST"], environment["ROUTER_PORT"]) == ("127.0.0.1", "50052")
    peers = {name: value for name, value in environment.items() if name.endswith("_ADDRESS")}
    assert peers == {
        "PIPELINE_ROUTER_ADDRESS": "127.0.0.1:50052",
        "ORCHESTRATOR_ROUTER_ADDRESS": "127.0.0.1:50052",
        "ORCHESTRATOR_PIPELINE_ADDRESS": "127.0.0.1:50053",
        "GATEWAY_ROUTER_ADDRESS": "127.0.0.1:50052",
        "GATEWAY_PIPELINE_ADDRESS": "127.0.0.1:50053",
        "GATEWAY_ORCHESTRATOR_ADDRESS": "127.0.0.1:50054",
    }


def test_provider_variables_reach_the_services(
    settings: StackSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert service_environment(settings, "", "")["OPENAI_BASE_URL"] == "http://127.0.0.1:9/v1"


def test_the_router_alone_holds_the_keys_of_providers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "GOOGLE_CREDENTIALS", "DEN_KEY_FILE", "ATTIC_KEY"}
    for name in given:
        monkeypatch.setenv(name, "secret")
    (tmp_path / "models.yaml").write_text(
        "servers: [{name: den, api_key_variable: DEN_KEY}, {name: attic, access_token_variable: ATTIC_KEY}]"
    )
    settings = StackSettings.model_validate({"home": tmp_path, "config_dir": tmp_path})
    held = {
        program.name: given & set(program.command.environment)
        for program in describe_service_programs(settings, "", "")
    }
    assert held == {"router": given, "pipeline": set(), "orchestrator": set(), "gateway": set()}


@pytest.mark.parametrize("content", ["servers: [", "servers: 3", "[]", "servers: [x]", ""])
def test_a_file_of_models_that_is_broken_is_for_the_router_to_tell_of(tmp_path: Path, content: str) -> None:
    (tmp_path / "models.yaml").write_text(content)
    bare = without_providers({"PATH": "/bin", "OPENAI_API_KEY": "x"}, tmp_path / "models.yaml")
    assert bare == {"PATH": "/bin"}


def test_a_shared_process_is_told_all_its_services(tmp_path: Path) -> None:
    settings = StackSettings.model_validate({"home": tmp_path, "colocate": "gateway,router"})
    program = describe_service_programs(settings, "", "")[-1]
    assert program.name == "router+gateway"
    assert program.command.arguments[-3:] == ("serve", "router", "gateway")


def test_origins_are_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTET_CORS_ORIGINS", "https://a.example, http://localhost:3000")
    assert StackSettings.load().cors_origins == ("https://a.example", "http://localhost:3000")


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"QUARTET_CORS_ORIGINS": "*"}, "is no origin"),
        ({"QUARTET_CORS_ORIGINS": "https://*.example"}, "is no origin"),
        ({"QUARTET_CORS_ORIGINS": "https://a.example/page"}, "is no origin"),
        ({"QUARTET_TLS": "1", "QUARTET_TLS_CERT": "/a"}, "belong together"),
        ({"QUARTET_TLS_CERT": "/a", "QUARTET_TLS_KEY": "/b"}, "without TLS"),
        ({"QUARTET_TLS_CLIENT_CA": "/a"}, "without TLS"),
    ],
)
def test_half_a_description_of_the_edge_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], complaint: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=complaint):
        StackSettings.load()
