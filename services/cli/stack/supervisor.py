from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.cli.stack.process import Child, read_tail, rotate_log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from services.cli.stack.process import Command, ProcessRoom

PROBE_PERIOD_S = 0.05
PROBE_TIMEOUT_S = 2.0
ROTATION_PERIOD_S = 10.0


class StackError(Exception):
    """The stack cannot run; the message is for the terminal and says what to do next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A part of the stack: how to execute it and how to know that it serves."""

    name: str
    command: Command
    is_ready: Callable[[], Awaitable[bool]]
    ready_timeout_s: float = 60.0
    start_retry_s: float = 0.0
    """How long an exit before readiness is answered by another start instead of an error."""


@dataclass(slots=True, kw_only=True)
class Backoff:
    """Doubling delays between the restarts of one program, forgotten once it ran stably."""

    first_s: float = 0.5
    limit_s: float = 30.0
    stable_s: float = 60.0
    attempts: int = 10
    _used: int = field(default=0, init=False)

    def delay_after(self, uptime_s: float) -> float | None:
        """Seconds to wait before the next start; None when the attempts are used up."""
        if uptime_s >= self.stable_s:
            self._used = 0
        if self._used >= self.attempts:
            return None
        delay = min(self.limit_s, self.first_s * 2.0**self._used)
        self._used += 1
        return delay


class Supervisor:
    """Starts programs in order, restarts those that crash, and stops all of them in reverse order."""

    def __init__(
        self, room: ProcessRoom, *, say: Callable[[str], object], backoff: Callable[[], Backoff] = Backoff
    ) -> None:
        self._room = room
        self._say = say
        self._backoff = backoff
        self._children: dict[str, Child] = {}
        self._keepers: set[asyncio.Task[None]] = set()

    async def start(self, *programs: Program) -> None:
        """Starts the programs side by side and returns when all serve; StackError when one does not."""
        for program in programs:
            await asyncio.to_thread(rotate_log, self._room.log(program.name), limit_bytes=0)
        starts = [asyncio.create_task(self._bring_up(program)) for program in programs]
        try:
            await asyncio.gather(*starts)
        finally:
            for start in starts:
                start.cancel()
            await asyncio.gather(*starts, return_exceptions=True)
        self._keepers.update(asyncio.create_task(self._keep(program)) for program in programs)

    async def watch(self) -> None:
        """Keeps logs bounded and programs running; ends with StackError when one crashes too often."""
        while True:
            done, _ = await asyncio.wait(
                self._keepers, timeout=ROTATION_PERIOD_S, return_when=asyncio.FIRST_COMPLETED
            )
            for keeper in done:
                keeper.result()
            for name in self._children:
                await asyncio.to_thread(rotate_log, self._room.log(name))

    async def stop(self) -> None:
        """Stops the programs one after the other, the last started first; none is left when it returns."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers.clear()
        while self._children:
            _, child = self._children.popitem()
            await child.stop()

    def kill(self) -> None:
        """Kills every program at once, for those who cannot wait for `stop` any longer."""
        for child in self._children.values():
            child.kill()

    async def _keep(self, program: Program) -> None:
        backoff = self._backoff()
        while True:
            started = time.monotonic()
            code = await self._children[program.name].wait()
            what = f"{program.name} {_describe_exit(code)}"
            await self._restart(program, backoff, what, uptime_s=time.monotonic() - started)

    async def _restart(self, program: Program, backoff: Backoff, what: str, *, uptime_s: float) -> None:
        while (delay_s := backoff.delay_after(uptime_s)) is not None:
            self._say(f"{what}; starting it again in {delay_s:g} s")
            await asyncio.sleep(delay_s)
            try:
                await self._bring_up(program)
            except StackError as failure:
                what, uptime_s = str(failure).partition(". ")[0], 0.0
            else:
                self._say(f"{program.name} serves again")
                return
        raise self._explain(program.name, f"{what}, again and again, and is given up")

    async def _bring_up(self, program: Program) -> None:
        retry_until = time.monotonic() + program.start_retry_s
        while True:
            code = await self._start_once(program)
            if code is None:
                return
            if time.monotonic() >= retry_until:
                raise self._explain(
                    program.name, f"{program.name} {_describe_exit(code)} before it was ready"
                )
            await asyncio.sleep(0.5)

    async def _start_once(self, program: Program) -> int | None:
        """None once the program serves, else the code it exited with before."""
        try:
            child = await Child.start(program.name, program.command, self._room)
        except OSError as error:
            raise StackError(f"{program.name} cannot be executed: {error}") from error
        previous = self._children.get(program.name)
        self._children[program.name] = child
        if previous is not None:
            previous.kill()  # what the crashed one may have left in its process group
        deadline = time.monotonic() + program.ready_timeout_s
        while child.exit_code is None:
            if await _probe(program):
                return None
            if time.monotonic() >= deadline:
                await child.stop()
                raise self._explain(
                    program.name, f"{program.name} was not ready within {program.ready_timeout_s:g} s"
                )
            await asyncio.sleep(PROBE_PERIOD_S)
        return child.exit_code

    def _explain(self, name: str, what: str) -> StackError:
        log = self._room.log(name)
        lines = "\n".join(f"  {line}" for line in read_tail(log))
        return StackError(f"{what}. Its last lines, from {log}:\n{lines or '  (none)'}")


async def _probe(program: Program) -> bool:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return await program.is_ready()
    except TimeoutError:
        return False


def _describe_exit(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"exited with code {code}"
