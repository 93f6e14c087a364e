import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.cli.stack.process import Command, Identity, ProcessRoom
from services.cli.stack.supervisor import Backoff, Program, StackError, Supervisor

SERVE = "import os, sys, time; print(os.getpid(), file=open(sys.argv[1], 'w'))\n"
FOREVER = SERVE + "time.sleep(60)"


@pytest.fixture
def room(tmp_path: Path) -> ProcessRoom:
    return ProcessRoom.within(tmp_path / "home")


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
async def supervisor(room: ProcessRoom, said: list[str]) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(room, say=said.append, backoff=lambda: Backoff(first_s=0.01, attempts=3))
    yield supervisor
    await supervisor.stop()


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Program]:
    """Builds a Python child that is ready once it has written its pid to the file that it is given."""

    def build(name: str, code: str, *, timeout_s: float = 30.0, retry_s: float = 0.0) -> Program:
        pid_file = tmp_path / f"{name}.pid"

        async def is_ready() -> bool:
            return pid_file.exists() and is_running(pid_file.read_text())

        return Program(
            name=name,
            command=Command(
                arguments=(sys.executable, "-u", "-c", code, str(pid_file)), environment=os.environ
            ),
            is_ready=is_ready,
            ready_timeout_s=timeout_s,
            start_retry_s=retry_s,
        )

    return build


def is_running(pid: str) -> bool:
    return pid.endswith("\n") and Identity.of(int(pid)) is not None


def test_delays_double_up_to_a_limit_and_end() -> None:
    backoff = Backoff(first_s=1, limit_s=3, attempts=4)
    assert [backoff.delay_after(0) for _ in range(5)] == [1, 2, 3, 3, None]


def test_a_stable_run_forgets_earlier_crashes() -> None:
    backoff = Backoff(first_s=1, stable_s=60, attempts=2)
    assert [backoff.delay_after(uptime_s) for uptime_s in (0, 0, 61)] == [1, 2, 1]


async def test_a_child_that_crashes_at_start_is_reported_with_its_last_lines(
    supervisor: Supervisor, program: Callable[..., Program]
) -> None:
    code = "[print('line', n) for n in range(30)]; raise SystemExit(3)"
    with pytest.raises(StackError) as caught:
        await supervisor.start(program("router", code))
    message = str(caught.value)
    assert message.startswith("router exited with code 3 before it was ready.")
    assert message.endswith("\n".join(f"  line {number}" for number in range(10, 30)))


async def test_a_missing_binary_is_reported(supervisor: Supervisor, program: Callable[..., Program]) -> None:
    broken = program("redis", "")
    command = Command(arguments=("/nonexistent/redis-server",))
    with pytest.raises(
        StackError, match=r"redis cannot be executed: .*No such file.*/nonexistent/redis-server"
    ):
        await supervisor.start(
            Program(name=broken.name, command=command, is_ready=broken.is_ready, ready_timeout_s=1)
        )


async def test_a_child_that_never_gets_ready_is_stopped_and_reported(
    supervisor: Supervisor, program: Callable[..., Program], room: ProcessRoom
) -> None:
    with pytest.raises(StackError, match=r"router was not ready within 0\.2 s"):
        await supervisor.start(program("router", "import time; time.sleep(60)", timeout_s=0.2))
    assert list(room.run.iterdir()) == []


async def test_a_program_may_need_several_starts(
    supervisor: Supervisor, program: Callable[..., Program], tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    once = (
        f"from pathlib import Path; seen = Path({str(seen)!r})\nif not seen.exists(): seen.touch(); exit(1)\n"
    )
    await supervisor.start(program("postgres", once + FOREVER, retry_s=30))


async def test_programs_stop_in_reverse_order(
    supervisor: Supervisor, program: Callable[..., Program], tmp_path: Path
) -> None:
    ends = tmp_path / "ends"
    for name in ("first", "second"):
        note = f"print({name!r}, file=open({str(ends)!r}, 'a'))"
        code = f"import signal, sys\nsignal.signal(15, lambda *_: [{note}, sys.exit()])\n"
        await supervisor.start(program(name, code + FOREVER))
    await supervisor.stop()
    assert ends.read_text() == "second\nfirst\n"


async def test_a_serving_program_that_crashes_is_started_again(
    supervisor: Supervisor, program: Callable[..., Program], tmp_path: Path, said: list[str]
) -> None:
    await supervisor.start(program("router", FOREVER))
    pid_file = tmp_path / "router.pid"
    crashed = pid_file.read_text()
    os.kill(int(crashed), signal.SIGKILL)
    for _ in range(1500):
        if len(said) == 2:
            break
        await asyncio.sleep(0.02)
    assert said == ["router was ended by signal 9; starting it again in 0.01 s", "router serves again"]
    assert is_running(pid_file.read_text())


async def test_a_program_that_crashes_again_and_again_is_given_up(
    supervisor: Supervisor, program: Callable[..., Program], tmp_path: Path, said: list[str]
) -> None:
    seen = tmp_path / "seen"
    wait = f"from pathlib import Path; seen = Path({str(seen)!r}); seen.unlink(missing_ok=True)\n"
    crash = "while not seen.exists(): time.sleep(0.01)\nexit(7)"
    crashing = program("router", wait + SERVE + crash)

    async def is_ready() -> bool:
        ready = await crashing.is_ready()
        if ready:
            seen.touch()
        return ready

    await supervisor.start(replace(crashing, is_ready=is_ready))
    async with asyncio.timeout(30):
        with pytest.raises(StackError, match=r"router exited with code 7.*given up"):
            await supervisor.watch()
    assert len([line for line in said if "starting it again" in line]) == 3


async def test_one_program_that_fails_ends_the_start_of_its_companions(
    supervisor: Supervisor, program: Callable[..., Program], room: ProcessRoom
) -> None:
    with pytest.raises(StackError, match="pipeline exited with code 1"):
        await supervisor.start(
            program("router", "import time; time.sleep(60)"), program("pipeline", "raise SystemExit(1)")
        )
    await supervisor.stop()
    assert list(room.run.iterdir()) == []
