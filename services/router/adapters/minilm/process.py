"""The embedder's end of its worker process."""

import asyncio
import contextlib
import socket
import sys
from pathlib import Path
from typing import Self

from services.kit.workers import worker_environment
from services.router.adapters.minilm.frames import LENGTH, frame

WORKER_MODULE = "services.router.adapters.minilm.worker"
STOP_GRACE_S = 2.0


class WorkerError(Exception):
    """The worker process could not start, died, or stopped answering."""


class WorkerProcess:
    """One child process that answers one frame at a time; it dies with this process, even at `kill -9`.

    The socket ties the two: the kernel closes our end whatever becomes of us, and the worker ends then.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, directory: Path, *, threads: int, timeout_s: float) -> Self:
        """Start the worker and wait until its model is loaded.

        Raises:
            WorkerError: it did not become ready in time; the message is the worker's own where it gave one.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", WORKER_MODULE),
                    *(str(directory), str(threads), str(theirs.fileno())),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    # The worker finds our packages wherever we found them.
                    env=worker_environment(),
                )
            except BaseException:
                writer.close()
                raise
        worker = cls(process, reader, writer)
        try:
            async with asyncio.timeout(timeout_s):
                refusal = await worker._read()
        except TimeoutError:
            await worker.stop(grace_s=0.0)
            raise WorkerError(f"it was not ready within {timeout_s:g} s") from None
        except BaseException:
            await worker.stop(grace_s=0.0)
            raise
        if refusal:
            await worker.stop()
            raise WorkerError(refusal.decode())
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    async def exchange(self, content: bytes, *, timeout_s: float) -> bytes:
        """Send a frame and return the answer; after an exception the worker is out of step: stop it.

        Raises:
            WorkerError: it died, or did not answer in time.
        """
        try:
            async with asyncio.timeout(timeout_s):
                self._writer.write(frame(content))
                await self._writer.drain()
                return await self._read()
        except TimeoutError:
            raise WorkerError(f"it did not answer within {timeout_s:g} s") from None
        except OSError as error:
            raise WorkerError(f"it is gone: {error}") from error

    async def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """Close the socket, at which the worker ends; kill it when it does not end within the grace."""
        self._writer.close()
        try:
            async with asyncio.timeout(grace_s):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        # Only now: a worker that hangs reads no more, and what it did not read keeps the socket open.
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _read(self) -> bytes:
        try:
            (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
            return await self._reader.readexactly(length)
        except asyncio.IncompleteReadError:
            raise WorkerError("it ended unasked; its last words are in the log") from None
