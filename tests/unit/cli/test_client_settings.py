from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.__main__ import app
from services.cli.settings import ClientSettings
from services.kit.settings import SettingsError


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUARTET_URL", "QUARTET_API_KEY", "QUARTET_API_KEY_FILE", "QUARTET_HOME"):
        monkeypatch.delenv(name, raising=False)


def test_the_local_edge_is_the_default() -> None:
    assert ClientSettings.load().url == "http://127.0.0.1:8080"


@pytest.mark.parametrize("url", ["localhost:8080", "http://host/v1", "ftp://host", "http://"])
def test_an_address_that_is_no_edge_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("QUARTET_URL", url)
    with pytest.raises(SettingsError, match=r"QUARTET_URL.*http://host:port"):
        ClientSettings.load()


@pytest.mark.parametrize("url", ["http://host:many", "http://host:99999", "https://[::1"])
def test_a_port_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("QUARTET_URL", url)
    with pytest.raises(SettingsError, match=r"QUARTET_URL: the port must be a number"):
        ClientSettings.load()


@pytest.mark.parametrize("command", [["status"], ["chat"]])
def test_a_certificate_that_cannot_be_read_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("QUARTET_URL", "https://127.0.0.1:1")
    monkeypatch.setenv("QUARTET_CA_CERT", "/nowhere/ca.pem")
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, result.output) == (
        2,
        "error: cannot read /nowhere/ca.pem: No such file or directory\n",
    )


def test_the_given_key_goes_before_that_of_the_local_suite(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "dev.key").write_text("of the suite\n")
    monkeypatch.setenv("QUARTET_HOME", str(tmp_path))
    assert ClientSettings.load().read_key() == "of the suite"
    (tmp_path / "mounted").write_text("mounted\n")
    monkeypatch.setenv("QUARTET_API_KEY_FILE", str(tmp_path / "mounted"))
    assert ClientSettings.load().read_key() == "mounted"
    monkeypatch.setenv("QUARTET_API_KEY", "given")
    assert ClientSettings.load().read_key() == "given"


def test_no_key_is_no_error() -> None:
    assert ClientSettings(home=Path("/nowhere")).read_key() == ""


def test_a_key_that_cannot_be_read_is_one(tmp_path: Path) -> None:
    (tmp_path / "dev.key").mkdir()
    with pytest.raises(SettingsError, match="cannot read the key"):
        ClientSettings(home=tmp_path).read_key()


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(ClientSettings(api_key="secret"))
