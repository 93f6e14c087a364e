"""Runs scripts on Redis, many at once: what waits when the last ones are answered goes in one pipeline."""

import asyncio
import hashlib
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)

from services.kit.accounts.account import AccountsUnavailableError
from services.kit.redis_client import open_redis
from services.kit.tasks import end

TIMEOUT_S = 2.0
REST_S = 1.0
"""After a failure nothing is asked for this long; then it is tried again."""
MAX_MISSES = 3
"""Answers in a row that are late before Redis is left alone: one alone may be a machine that is busy."""
MAX_BATCH = 256
LATE_TURNS = 20
"""Turns of the loop, less than a millisecond of an idle one, in which an answer may still be read."""
MAX_WAITING = 20_000
"""Commands that nobody waits for, kept while Redis is away; more are dropped: their accounts run out."""

_NOT_NOW = (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
"""What a server says that will take the command later, or another in its place."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Command:
    sha: str
    prefix: str
    arguments: tuple[Any, ...]
    answer: "asyncio.Future[Any] | None"
    """None for a command that nobody waits for."""
    was_sent: bool = False


class Commands:
    """A connection that is shared by all callers of this process.

    Args:
        scripts: Every script that will be run.
    """

    def __init__(self, url: str, scripts: tuple[str, ...]) -> None:
        self._redis: Any = open_redis(url, connect_timeout_s=TIMEOUT_S, max_connections=4)
        self._scripts = scripts
        self._shas = {script: hashlib.sha1(script.encode()).hexdigest() for script in scripts}  # noqa: S324
        self._waiting: deque[_Command] = deque()
        self._posted: deque[_Command] = deque()
        self._some = asyncio.Event()
        self._done = asyncio.Event()
        self._done.set()
        self._rests_until = 0.0
        self._misses = 0
        self._is_loaded = False
        self._task: asyncio.Task[None] | None = None

    async def run(self, script: str, prefix: str, *arguments: Any, timeout_s: float) -> Any:
        """The script's answer; raises AccountsUnavailableError after `timeout_s`, or at once in a rest."""
        if time.monotonic() < self._rests_until:
            raise AccountsUnavailableError("Redis did not answer a moment ago")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        command = _Command(self._shas[script], prefix, arguments, answer)
        self._waiting.append(command)
        self._wake()
        try:
            await asyncio.wait([answer], timeout=timeout_s)
            # When the loop itself was late, the answer is there and only not read yet.
            for _ in range(LATE_TURNS):
                if answer.done():
                    self._misses = 0
                    return answer.result()
                await asyncio.sleep(0)
        finally:
            answer.cancel()
        self._misses += 1
        if self._misses >= MAX_MISSES:
            self._rest("no answer in time")
        raise AccountsUnavailableError("Redis does not answer in time", was_sent=command.was_sent)

    def post(self, script: str, prefix: str, *arguments: Any) -> None:
        """Runs a script soon; costs the caller microseconds. While Redis is away it waits."""
        if len(self._posted) >= MAX_WAITING:
            log.error("an account's command is dropped: Redis is away for too long")
            return
        self._posted.append(_Command(self._shas[script], prefix, arguments, None))
        self._wake()

    async def flush(self, timeout_s: float = 5.0) -> None:
        """Waits until all that was posted has run, or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._done.wait()
        except TimeoutError:
            log.error("accounts' commands are lost", extra={"commands": len(self._posted)})

    async def close(self) -> None:
        """Runs what waits, for a few seconds at most, and closes the connections."""
        await self.flush()
        if self._task is not None:
            await end(self._task)
        await self._redis.aclose()

    def _wake(self) -> None:
        self._done.clear()
        self._some.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="accounts")

    async def _work(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            while self._waiting or self._posted:
                batch = self._take()
                try:
                    await self._send(batch)
                except (RedisError, OSError, TimeoutError) as error:
                    self._fail(batch, error)
                    if not self._waiting:
                        await asyncio.sleep(REST_S)
            self._done.set()

    def _take(self) -> list[_Command]:
        """Who waits comes first."""
        batch: list[_Command] = []
        for queue in (self._waiting, self._posted):
            while queue and len(batch) < MAX_BATCH:
                command = queue.popleft()
                # Who has given up waiting wants it no more.
                if command.answer is None or not command.answer.done():
                    batch.append(command)
        return batch

    async def _send(self, batch: list[_Command]) -> None:
        if not batch:
            return
        if not self._is_loaded:
            await self._load()
        for command in batch:
            command.was_sent = True
        async with asyncio.timeout(TIMEOUT_S), self._redis.pipeline(transaction=False) as pipe:
            for command in batch:
                pipe.evalsha(command.sha, 1, command.prefix, *command.arguments)
            answers = await pipe.execute(raise_on_error=False)
        postponed: list[_Command] = []
        for command, answer in zip(batch, answers, strict=True):
            if isinstance(answer, NoScriptError):
                # The server has forgotten the scripts: it was restarted, or flushed.
                self._is_loaded = False
                postponed.append(command)
            elif isinstance(answer, _NOT_NOW) and command.answer is None:
                postponed.append(command)
            else:
                _resolve(command, answer)
        for command in reversed(postponed):
            (self._posted if command.answer is None else self._waiting).appendleft(command)
        if any(isinstance(answer, _NOT_NOW) for answer in answers):
            batch.clear()
            raise ConnectionError("Redis takes no changes now")

    async def load(self) -> None:
        """Connects and makes the scripts known; a Redis that is away is found later."""
        try:
            await self._load()
        except (RedisError, OSError, TimeoutError) as error:
            self._rest(type(error).__name__)

    async def _load(self) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            for script in self._scripts:
                await self._redis.script_load(script)
        self._is_loaded = True

    def _fail(self, batch: list[_Command], error: Exception) -> None:
        self._rest(type(error).__name__)
        self._is_loaded = False
        for command in reversed(batch):
            if command.answer is None:
                self._posted.appendleft(command)
            elif not command.answer.done():
                command.answer.set_exception(AccountsUnavailableError(str(error), was_sent=command.was_sent))

    def _rest(self, why: str) -> None:
        if time.monotonic() >= self._rests_until:
            log.warning("accounts cannot be reached: %s", why)
        self._rests_until = time.monotonic() + REST_S


def _resolve(command: _Command, answer: Any) -> None:
    failed = isinstance(answer, Exception)
    if command.answer is None:
        if failed:
            log.error("an account's command failed: %s", answer)
    elif not command.answer.done():
        if failed:
            command.answer.set_exception(AccountsUnavailableError(str(answer)))
        else:
            command.answer.set_result(answer)
