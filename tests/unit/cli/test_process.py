import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from services.cli.stack.process import (
    Child,
    Command,
    Identity,
    ProcessRoom,
    end_leftovers,
    read_tail,
    rotate_log,
)


@pytest.fixture
def room(tmp_path: Path) -> ProcessRoom:
    return ProcessRoom.within(tmp_path / "home")


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def python(code: str, *, stop_grace_s: float = 30.0) -> Command:
    arguments = (sys.executable, "-u", "-c", code)
    return Command(arguments=arguments, environment=os.environ, stop_grace_s=stop_grace_s)


async def ticks() -> AsyncIterator[None]:
    """Moments at which to look again, for half a minute."""
    for _ in range(1500):
        yield
        await asyncio.sleep(0.02)
    pytest.fail("nothing happened")


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("".join(f"line {number}\n" for number in range(10_000)))
    assert read_tail(log, lines=2) == ["line 9998", "line 9999"]


def test_the_tail_of_a_missing_log_is_empty(tmp_path: Path) -> None:
    assert read_tail(tmp_path / "none.log") == []


def test_a_log_beyond_its_limit_moves_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    with log.open("a") as writer:
        writer.write("old\n" * 10)
        writer.flush()
        assert not rotate_log(log, limit_bytes=40)
        assert rotate_log(log, limit_bytes=39)
        writer.write("new\n")
    assert log.read_text() == "new\n"
    assert (tmp_path / "a.log.1").read_text() == "old\n" * 10


def test_a_process_is_recognised_by_pid_and_start_time(stranger: subprocess.Popen[bytes]) -> None:
    identity = Identity.of(stranger.pid)
    assert identity is not None
    assert identity.is_alive()
    assert not replace(identity, start_ticks=identity.start_ticks - 1).is_alive()
    stranger.kill()
    os.waitid(os.P_PID, stranger.pid, os.WEXITED | os.WNOWAIT)
    assert not identity.is_alive()  # a zombie does nothing any more


async def test_what_a_child_writes_is_in_its_log(room: ProcessRoom) -> None:
    child = await Child.start("a", python("import sys; print('out'); print('err', file=sys.stderr)"), room)
    assert await child.wait() == 0
    assert sorted(read_tail(room.log("a"))) == ["err", "out"]
    await child.stop()


async def test_a_child_that_ignores_its_stop_signal_is_killed(room: ProcessRoom) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready'); time.sleep(60)"
    child = await Child.start("a", python(code, stop_grace_s=0.2), room)
    async for _ in ticks():
        if read_tail(room.log("a")):
            break
    await child.stop()
    assert child.exit_code == -signal.SIGKILL
    assert list(room.run.iterdir()) == []


async def test_a_leftover_of_a_killed_supervisor_is_ended(room: ProcessRoom) -> None:
    child = await Child.start("a", python("import time; time.sleep(60)"), room)
    assert await end_leftovers(room) == ["a"]
    assert await child.wait() == -signal.SIGTERM
    assert list(room.run.iterdir()) == []


async def test_what_a_dead_leftover_started_is_ended_too(room: ProcessRoom) -> None:
    worker = "import time; time.sleep(60)"
    leader = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {worker!r}]).pid)"
    child = await Child.start("a", python(leader), room)
    await child.wait()
    orphan = Identity.of(int(read_tail(room.log("a"))[0]))
    assert orphan is not None
    assert await end_leftovers(room) == []
    async for _ in ticks():
        if not orphan.is_alive():
            break


async def test_a_stranger_that_got_the_pid_of_a_leftover_is_spared(
    room: ProcessRoom, stranger: subprocess.Popen[bytes]
) -> None:
    identity = Identity.of(stranger.pid)
    assert identity is not None
    earlier = replace(identity, start_ticks=identity.start_ticks - 1)
    record = room.run / "a.json"
    record.write_text(json.dumps({"identity": asdict(earlier), "stop_signal": 15}))
    assert await end_leftovers(room) == []
    assert stranger.poll() is None
    assert not record.exists()


async def test_a_pid_file_cut_off_by_the_kill_is_removed(room: ProcessRoom) -> None:
    (room.run / "a.json").write_text('{"identity": {"pi')
    assert await end_leftovers(room) == []
    assert list(room.run.iterdir()) == []


def test_children_end_when_their_supervisor_is_killed(room: ProcessRoom) -> None:
    code = f"""
import asyncio, os, sys
from pathlib import Path
from services.cli.stack.process import Child, Command, ProcessRoom
async def main():
    sleep = Command(arguments=(sys.executable, "-c", "import time; time.sleep(60)"), environment=os.environ)
    print((await Child.start("a", sleep, ProcessRoom.within(Path({str(room.run.parent)!r})))).pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        child = Identity.of(int(supervisor.stdout.readline()))
        assert child is not None
        supervisor.kill()
    for _ in range(200):
        if not child.is_alive():
            return
        time.sleep(0.05)
    pytest.fail("the child outlived its supervisor")
