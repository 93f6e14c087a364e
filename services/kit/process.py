"""A service's process from its first line to its exit status."""

import asyncio
import ctypes
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import FrameType
from typing import Any, TypeVar

import uvloop

from services.kit import logs, telemetry
from services.kit.binding import Binding
from services.kit.serving import AddressTakenError, Server, serve_until_signal
from services.kit.settings import KitSettings, SettingsError

WORKER_VARIABLE = "QUARTET_WORKER"
EXIT_MISCONFIGURED = 78
"""EX_CONFIG of sysexits.h: starting again without a change would not help."""

_PR_SET_PDEATHSIG = 1

log = logging.getLogger(__name__)
S = TypeVar("S", bound=KitSettings)
Build = Callable[[S, Mapping[str, object]], AbstractAsyncContextManager[Sequence[Binding]]]
"""A service's composition root: from its settings, and its co-located peers by contract, to what it binds."""


def run_service(name: str, load: Callable[[], S], build: Build[S]) -> int:
    """Serves one service until SIGTERM: what a service's `__main__` does. Returns the exit status."""
    logs.configure(name, "INFO")
    try:
        settings = load()
    except SettingsError as error:
        log.error("%s", error)
        return EXIT_MISCONFIGURED

    async def serve() -> None:
        async with build(settings, {}) as bindings, Server(bindings, settings):
            await serve_until_signal()

    return run(name, settings, serve)


def run(name: str, settings: KitSettings, serve: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Runs `serve` with logs and telemetry, and returns the exit status: 0 after a drain.

    With more than one worker this process starts them, passes signals on and waits.
    """
    logs.configure(name, settings.log_level)
    if WORKER_VARIABLE in os.environ:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    elif settings.workers > 1:
        return _run_workers(settings)
    sending = telemetry.configure(name, settings)

    async def observed() -> None:
        sending.observe_tasks(asyncio.get_running_loop())
        await serve()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(observed())
    except (AddressTakenError, SettingsError) as error:
        log.error("%s", error)
        return EXIT_MISCONFIGURED
    finally:
        sending.shutdown()
    return 0


def _run_workers(settings: KitSettings) -> int:
    """Ends all workers when one ends, so that whoever watches this process starts the set again."""
    if settings.port == 0:
        prefix = settings.model_config.get("env_prefix", "")
        log.error("workers share a port: set %sPORT, or set %sWORKERS to 1", prefix, prefix)
        return EXIT_MISCONFIGURED
    command = [sys.executable, *sys.orig_argv[1:]]
    environment = {**os.environ, WORKER_VARIABLE: "1"}
    workers = [subprocess.Popen(command, env=environment) for _ in range(settings.workers)]

    asked = False

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        del frame
        asked = True
        for worker in workers:
            worker.send_signal(number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, forward)
    ended, status = os.wait()
    others = [worker for worker in workers if worker.pid != ended]
    if not asked:
        log.error("a worker ended: ending the others", extra={"worker": ended})
        for worker in others:
            worker.terminate()
    statuses = [os.waitstatus_to_exitcode(status), *(worker.wait() for worker in others)]
    return max(map(abs, statuses))
