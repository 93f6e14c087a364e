import os
import socket
import subprocess
import sys
from pathlib import Path

from services.cli.stack.home import hold_home
from services.cli.stack.ports import PARTS
from services.cli.stack.process import ProcessRoom


def up(home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs `quartet up` until it ends by itself."""
    ports = {f"QUARTET_{part.upper()}_PORT": "0" for part in PARTS}
    environment = {**os.environ, **ports, "QUARTET_HOME": str(home), **variables}
    arguments = [sys.executable, "-m", "services.cli", "up"]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_taken_port_ends_the_start_before_anything_runs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = up(tmp_path / "home", QUARTET_EDGE_PORT=str(port))
    assert done.returncode == 1
    assert f"Port {port} for the edge is taken" in done.stdout
    assert "QUARTET_EDGE_PORT" in done.stdout
    assert list((tmp_path / "home" / "logs").iterdir()) == []


def test_a_second_stack_in_the_same_home_is_refused(tmp_path: Path) -> None:
    ProcessRoom.within(tmp_path)
    with hold_home(tmp_path):
        done = up(tmp_path)
    assert done.returncode == 1
    assert f"A stack already runs in {tmp_path} (process {os.getpid()})" in done.stdout


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    done = up(tmp_path, QUARTET_COLOCATE="pipeline,orchestrator")
    assert done.returncode == 1
    assert "QUARTET_COLOCATE" in done.stdout
    assert "pipeline and orchestrator cannot share a process" in done.stdout


def test_a_redis_that_does_not_answer_is_named(tmp_path: Path) -> None:
    done = up(tmp_path, DATABASE_URL="postgresql://127.0.0.1:9/none", REDIS_URL="redis://127.0.0.1:9")
    assert done.returncode == 1
    assert "REDIS_URL does not answer" in done.stdout


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = up(tmp_path / "file" / "home")
    assert done.returncode == 1
    assert f"'{tmp_path}/file/home'" in done.stdout
