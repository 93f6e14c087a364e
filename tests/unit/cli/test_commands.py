import subprocess
import sys

import pytest
from typer.testing import CliRunner

from services.cli.__main__ import app


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["pipeline", "orchestrator"], "cannot share a process"),
        (["ruoter"], "unknown service ruoter"),
    ],
)
def test_a_set_of_services_that_cannot_be_served_is_wrong_usage(names: list[str], complaint: str) -> None:
    result = CliRunner().invoke(app, ["serve", *names])
    assert result.exit_code == 2
    assert complaint in result.output


def test_migrating_needs_to_be_told_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    result = CliRunner().invoke(app, ["migrate"])
    assert result.exit_code == 2
    assert "DATABASE_URL is not set" in result.output


def test_a_database_that_cannot_be_reached_is_said_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/none")
    result = CliRunner().invoke(app, ["migrate"])
    assert result.exit_code == 1
    assert result.output.startswith("error: connection failed")


def test_the_edges_configuration_is_checked_by_envoy_itself() -> None:
    result = CliRunner().invoke(app, ["envoy-config", "--validate"])
    assert (result.exit_code, result.output) == (0, "Envoy accepts the edge's configuration.\n")


def test_help_does_not_wait_for_what_the_commands_need() -> None:
    code = "import sys, services.cli.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"grpc", "pydantic", "psycopg"}.isdisjoint(done.stdout.split())
