from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import signal
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LOG_BYTES = 16 * 1024 * 1024
TAIL_BYTES = 64 * 1024
POLL_PERIOD_S = 0.05
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An operating system account that a child runs as when we are root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A process that can be recognised later: a pid alone may have passed to a stranger."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The identity of a running process; None when there is none, or only its zombie."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            boot_id = read_boot_id()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # State and start time follow the command, which may itself hold spaces and parentheses (proc(5)).
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else cls(pid=pid, start_ticks=int(fields[19]), boot_id=boot_id)

    def is_alive(self) -> bool:
        return Identity.of(self.pid) == self

    def signal(self, number: int) -> None:
        """Sends a signal, unless the process has ended."""
        if self.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def read_boot_id() -> str:
    """What tells this run of the machine from an earlier one, whose pids mean nothing any more."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to execute, as whom, and the signal that asks it to end."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    account: Account | None = None
    folder: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_s: float = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRoom:
    """The folders of one QUARTET_HOME in which children keep their logs and pid files."""

    logs: Path
    run: Path

    @classmethod
    def within(cls, home: Path) -> Self:
        """Makes the folders where missing; the home stays enterable so that the database may live in it."""
        home.mkdir(mode=0o711, parents=True, exist_ok=True)
        room = cls(logs=home / "logs", run=home / "run")
        room.logs.mkdir(mode=0o700, exist_ok=True)
        room.run.mkdir(mode=0o700, exist_ok=True)
        return room

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"


class Child:
    """A running child in a session of its own, which gets its stop signal also when we are killed."""

    def __init__(self, command: Command, process: asyncio.subprocess.Process, pid_file: Path) -> None:
        self._command = command
        self._process = process
        self._pid_file = pid_file

    @classmethod
    async def start(cls, name: str, command: Command, room: ProcessRoom) -> Self:
        """Starts the command with its output appended to its log; OSError when it cannot be executed."""
        account = command.account
        log = os.open(room.log(name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *command.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(command.environment),
                cwd=command.folder,
                # Ctrl-C reaches the terminal's whole process group: only the supervisor may act on it.
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                preexec_fn=_die_with_parent(command.stop_signal),
            )
        finally:
            os.close(log)
        pid_file = room.run / f"{name}.json"
        identity = Identity.of(process.pid)
        if identity is not None:
            record = {"identity": asdict(identity), "stop_signal": int(command.stop_signal)}
            pid_file.write_text(json.dumps(record), encoding="utf-8")
        return cls(command, process, pid_file)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; a negative one is the signal that ended it."""
        return self._process.returncode

    async def wait(self) -> int:
        """The exit code; a negative one is the signal that ended it."""
        return await self._process.wait()

    async def stop(self) -> None:
        """Asks the child to end, kills its process group when it has not within its grace, and reaps it."""
        if self._process.returncode is None:
            self._process.send_signal(self._command.stop_signal)
            try:
                async with asyncio.timeout(self._command.stop_grace_s):
                    await self.wait()
            except TimeoutError:
                self.kill()
        await self.wait()
        self.kill()
        self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kills whatever is left of the child's process group."""
        _signal_group(self.pid, signal.SIGKILL)


async def end_leftovers(room: ProcessRoom, *, grace_s: float = 15.0) -> list[str]:
    """Ends the children that an earlier, killed supervisor of the same home left; returns their names."""
    names: list[str] = []
    found: list[Identity] = []
    for pid_file in sorted(room.run.glob("*.json")):
        try:
            record = json.loads(pid_file.read_text(encoding="utf-8"))
            identity = Identity(**record["identity"])
            stop_signal = int(record["stop_signal"])
        except (ValueError, KeyError, TypeError):  # cut off by the kill: its process ends by the death signal
            pid_file.unlink(missing_ok=True)
            continue
        if identity.is_alive():
            identity.signal(stop_signal)
            names.append(pid_file.stem)
        found.append(identity)
        pid_file.unlink()
    await wait_until_gone(found, timeout_s=grace_s)
    for identity in found:
        # A group keeps its number from strangers while it has members: without its leader it is still ours.
        if Identity.of(identity.pid) in {identity, None} and identity.boot_id == read_boot_id():
            _signal_group(identity.pid, signal.SIGKILL)
    await wait_until_gone(found, timeout_s=5.0)
    return names


async def wait_until_gone(identities: list[Identity], *, timeout_s: float) -> None:
    """Returns when none of the processes runs any more, or after the time-out."""
    for _ in range(int(timeout_s / POLL_PERIOD_S)):
        if not any(identity.is_alive() for identity in identities):
            return
        await asyncio.sleep(POLL_PERIOD_S)


def read_tail(path: Path, *, lines: int = 20) -> list[str]:
    """The last lines of a log, without reading more than its last 64 KiB; empty when there is no log."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:]


def rotate_log(path: Path, *, limit_bytes: int = LOG_BYTES) -> bool:
    """Moves a log's content to `NAME.log.1` once it exceeds the limit; returns whether it did.

    The child keeps its file descriptor, so the file is copied and truncated instead of renamed; lines written
    between the two are lost.
    """
    if not path.exists() or path.stat().st_size <= limit_bytes:
        return False
    shutil.copyfile(path, previous := path.with_name(path.name + ".1"))
    previous.chmod(0o600)
    os.truncate(path, 0)
    return True


def _signal_group(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def follow_parent(number: signal.Signals, parent: int) -> None:
    """Has the kernel send us the signal when the thread that started us ends, however it ends; Linux only.

    `parent` is the id of its process, as that told us itself: asking who our parent is could be too late.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the request took effect
        os.kill(os.getpid(), number)


def _die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """A hook for the moment before exec that has the kernel send the signal when we die, however we die."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # died before the request took effect
            os._exit(1)

    return ask_kernel
