import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.__main__ import app
from services.cli.stack.home import hold_home
from services.cli.stack.ports import PARTS
from services.cli.stack.process import ProcessRoom


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The QUARTET_HOME of an environment in which every port is any free one."""
    home = tmp_path / "home"
    for part in PARTS:
        monkeypatch.setenv(f"QUARTET_{part.upper()}_PORT", "0")
    for name in ("DATABASE_URL", "REDIS_URL", "QUARTET_COLOCATE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("QUARTET_HOME", str(home))
    return home


def up(**variables: str) -> str:
    """Runs `quartet up`, which is to end by itself; returns what it says."""
    done = CliRunner().invoke(app, ["up"], env=variables, catch_exceptions=False)
    assert done.exit_code == 1
    return done.stdout


def test_a_taken_port_ends_the_start_before_anything_runs(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        arguments = [sys.executable, "-m", "services.cli", "up"]
        environment = {**os.environ, "QUARTET_EDGE_PORT": str(port)}
        done = subprocess.run(
            arguments, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert f"Port {port} for the edge is taken" in done.stdout
    assert "QUARTET_EDGE_PORT" in done.stdout
    assert list((home / "logs").iterdir()) == []


def test_a_second_stack_in_the_same_home_is_refused(home: Path) -> None:
    ProcessRoom.within(home)
    with hold_home(home):
        said = up()
    assert f"A stack already runs in {home} (process {os.getpid()})" in said


def test_a_wrong_setting_is_named() -> None:
    said = up(QUARTET_COLOCATE="pipeline,orchestrator")
    assert "QUARTET_COLOCATE" in said
    assert "pipeline and orchestrator cannot share a process" in said


def test_a_redis_that_does_not_answer_is_named() -> None:
    said = up(DATABASE_URL="postgresql://127.0.0.1:9/none", REDIS_URL="redis://127.0.0.1:9")
    assert "REDIS_URL does not answer" in said


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = up(QUARTET_HOME=str(tmp_path / "file" / "home"))
    assert f"'{tmp_path}/file/home'" in said
