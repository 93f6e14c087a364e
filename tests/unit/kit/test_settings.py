from pathlib import Path
from typing import Self

import pytest
from pydantic import model_validator
from pydantic_settings import SettingsConfigDict

from services.kit.settings import KitSettings, SettingsError


class GatewaySettings(KitSettings):
    model_config = SettingsConfigDict(env_prefix="GATEWAY_")

    pepper: str = ""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "GATEWAY_WORKERS", "GATEWAY_PORT", "QUARTET_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)


def test_shared_names_have_no_prefix_and_own_names_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://shared")
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "postgresql://other")
    monkeypatch.setenv("GATEWAY_PORT", "50051")
    settings = GatewaySettings.load()
    assert (settings.database_url, settings.port) == ("postgresql://shared", 50051)


@pytest.mark.parametrize("name", ["DATABASE_URL", "GATEWAY_PEPPER"])
def test_any_setting_can_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("postgresql://from-the-file\n", encoding="utf-8")
    monkeypatch.setenv(f"{name}_FILE", str(secret))
    settings = GatewaySettings.load()
    assert "postgresql://from-the-file" in (settings.database_url, settings.pepper)


def test_a_value_wins_over_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("file", encoding="utf-8")
    monkeypatch.setenv("GATEWAY_PEPPER_FILE", str(secret))
    monkeypatch.setenv("GATEWAY_PEPPER", "value")
    assert GatewaySettings.load().pepper == "value"


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_WORKERS", "")
    assert GatewaySettings.load().workers == 1


def test_a_file_that_is_not_there_is_named_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PEPPER_FILE", "/nowhere/pepper")
    with pytest.raises(SettingsError, match="GATEWAY_PEPPER_FILE: cannot read /nowhere/pepper"):
        GatewaySettings.load()


def test_every_wrong_variable_is_named_and_no_value_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PORT", "hunter2")
    monkeypatch.setenv("GATEWAY_WORKERS", "0")
    monkeypatch.setenv("QUARTET_LOG_LEVEL", "LOUD")
    with pytest.raises(SettingsError) as caught:
        GatewaySettings.load()
    for name in ("GATEWAY_PORT", "GATEWAY_WORKERS", "QUARTET_LOG_LEVEL"):
        assert name in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_urls_with_passwords_are_not_shown() -> None:
    settings = KitSettings(database_url="postgresql://u:hunter2@db/x", redis_url="redis://:hunter2@r")
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgres://db/x",
        "postgresql://u:p%40ss@[::1]:5432/x?sslmode=require&options=-c%20a%3Db",
        "postgresql://u:p@one:5432,two:5433/x",
        "postgresql:///x?host=/run/postgresql",
    ],
)
def test_a_database_is_named_by_a_url(url: str) -> None:
    assert KitSettings(database_url=url).database_url == url


@pytest.mark.parametrize(
    "url",
    [
        "postgres//u:hunter2@db/x",
        "host=db password=hunter2",
        "postgresql://u:hunter2%@db/x",
        "postgresql://u:hun@ter2@db/x",
        "postgresql://u:hun/ter2@db/x",
        "postgresql://u:hun#ter2@db/x",
    ],
)
def test_a_url_that_a_driver_would_quote_in_its_complaint_is_refused_unseen(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(SettingsError, match="DATABASE_URL: write postgresql://") as caught:
        GatewaySettings.load()
    assert "hun" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:6379", "http://cache", "redis://:hun/ter2@cache", "redis://[::1"])
def test_a_redis_that_no_driver_would_find_is_refused_unseen(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(SettingsError, match="REDIS_URL: write redis://") as caught:
        GatewaySettings.load()
    assert "hun" not in str(caught.value)


@pytest.mark.parametrize("url", ["collector:4317", "grpc://collector:4317", "http://collector:port"])
def test_a_collector_that_nobody_would_find_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    with pytest.raises(SettingsError, match="OTEL_EXPORTER_OTLP_ENDPOINT: write http://"):
        GatewaySettings.load()


def test_what_several_variables_do_wrong_together_is_said_in_its_own_words() -> None:
    class Bounds(GatewaySettings):
        @model_validator(mode="after")
        def _check(self) -> Self:
            raise ValueError("GATEWAY_LEAST is above GATEWAY_MOST")

    with pytest.raises(SettingsError, match=r"^GATEWAY_LEAST is above GATEWAY_MOST$"):
        Bounds.load()
