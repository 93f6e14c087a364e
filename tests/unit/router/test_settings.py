from pathlib import Path
from typing import Any

import pytest

from services.kit.settings import SettingsError
from services.router.settings import Settings, read_secret
from services.router.wiring import build

NOBODY: dict[str, Any] = {
    "openai_api_key": "",
    "openai_base_url": "",
    "anthropic_api_key": "",
    "anthropic_base_url": "",
}


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9099/v1", "http://localhost:9099", "https://ai.example.org/v1"]
)
async def test_the_suite_s_own_edge_is_no_provider(url: str) -> None:
    settings = Settings(
        **NOBODY | {"openai_base_url": url}, edge_port=9099, edge_url="https://ai.example.org"
    )
    with pytest.raises(SettingsError, match="OPENAI_BASE_URL is this suite's own address"):
        async with build(settings):
            pass


def test_another_port_of_this_machine_may_be_a_provider() -> None:
    assert not Settings(**NOBODY, edge_port=9099).is_own_edge("http://127.0.0.1:11434/v1")


def test_a_key_can_be_a_mounted_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    path.write_text("sk-secret\n", encoding="utf-8")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(path))
    settings = Settings.load()
    assert settings.openai_api_key == "sk-secret"
    assert "sk-secret" not in repr(settings)
    monkeypatch.setenv("MY_SERVER_KEY_FILE", str(path))
    assert read_secret("MY_SERVER_KEY") == "sk-secret"


def test_an_address_that_is_none_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "example.org")
    with pytest.raises(SettingsError, match="ANTHROPIC_BASE_URL"):
        Settings.load()


async def test_a_bad_configuration_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("models: 3\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"models\.yaml:1: models"):
        async with build(Settings(**NOBODY, config_dir=tmp_path)):
            pass
