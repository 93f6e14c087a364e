import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.__main__ import app
from services.cli.stack.home import hold_home
from services.cli.stack.ports import PARTS
from services.cli.stack.process import Identity, ProcessRoom
from tests.e2e.suite import make_home


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The QUARTET_HOME of an environment in which every port is any free one."""
    for part in PARTS:
        monkeypatch.setenv(f"QUARTET_{part.upper()}_PORT", "0")
    for name in ("DATABASE_URL", "REDIS_URL", "QUARTET_COLOCATE"):
        monkeypatch.delenv(name, raising=False)
    with make_home() as home:
        monkeypatch.setenv("QUARTET_HOME", str(home))
        yield home


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


@contextmanager
def started(home: Path, shell: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A shell, by a script that runs "$@", and the process of its `quartet up`, which starts the stores."""
    log = home.with_name("up.log")
    arguments = ["sh", "-c", shell, "sh", sys.executable, "-m", "services.cli", "up"]
    with log.open("wb") as output:
        parent = subprocess.Popen(arguments, stdout=output, stderr=output)
    try:
        wait_until(lambda: b"starting" in log.read_bytes())
        stack = Identity.of(int((home / "lock").read_text()))
        assert stack
        yield parent, stack.pid
        stack.signal(signal.SIGTERM)
        wait_until(lambda: b"stopped" in log.read_bytes())
    finally:
        parent.kill()
        parent.wait()


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_stack_ends_with_its_parent_however_that_ends_where_it_is_told_to(home: Path) -> None:
    with started(home, '"$@" --with-parent $$ & wait') as (parent, _):
        parent.kill()
        wait_until(lambda: b"stopped" in home.with_name("up.log").read_bytes())


def test_a_stack_whose_parent_was_gone_before_it_could_follow_starts_nothing(home: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    arguments = [sys.executable, "-m", "services.cli", "up", "--with-parent", str(gone.pid)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stdout.rstrip().endswith("stopped")
    assert list((home / "logs").iterdir()) == []


def test_a_stack_under_nohup_is_deaf_to_the_end_of_its_terminal(home: Path) -> None:
    with started(home, 'trap "" HUP; "$@" & wait') as (_, stack):
        status = Path(f"/proc/{stack}/status").read_text(encoding="ascii")
        masks = dict(line.split(":", 1) for line in status.splitlines())
        hang_up = 1 << (signal.SIGHUP - 1)
        assert int(masks["SigIgn"], 16) & hang_up
        assert int(masks["SigCgt"], 16) & 1 << (signal.SIGTERM - 1)


def test_a_stack_whose_reader_is_gone_stops_all_the_same(home: Path) -> None:
    arguments = [sys.executable, "-m", "services.cli", "up"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as stack:
        assert stack.stdout is not None
        assert b"starting" in stack.stdout.readline()
        stack.stdout.close()
        stack.terminate()
        assert stack.wait(60) == 0
    assert list((home / "run").iterdir()) == []


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
