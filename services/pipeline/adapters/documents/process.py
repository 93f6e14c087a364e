from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

from services.kit.errors import Unavailable
from services.kit.workers import worker_environment
from services.pipeline.adapters.documents.frames import PREFIX, pack_request, unpack_answer
from services.pipeline.domain.document import RawDocument, ReadDocument, UnreadableDocumentError

if TYPE_CHECKING:
    from pathlib import Path

    from services.pipeline.domain.chunking import ChunkSize

WORKER_MODULE = "services.pipeline.adapters.documents.worker"
START_TIMEOUT_S = 30.0


class DocumentProcess:
    """Reads documents in a worker process, one at a time; a worker that dies or hangs over one is replaced.

    Args:
        artifacts: The folder that holds `minilm/tokenizer.json`.
        timeout_s: For one document.
        memory_bytes: Of the worker's address space.
    """

    def __init__(self, artifacts: Path, *, timeout_s: float, memory_bytes: int) -> None:
        self._artifacts = artifacts
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._worker: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def read(self, document: RawDocument, size: ChunkSize, *, label_tokens: int) -> ReadDocument:
        """Reads and splits a document; see the port.

        Raises:
            UnreadableDocumentError: it cannot be read, whatever is tried.
            Unavailable: the worker cannot start.
        """
        async with self._turn:
            worker = await self._running_worker()
            finished = False
            try:
                async with asyncio.timeout(self._timeout_s):
                    head, body = await _exchange(worker, pack_request(document, size, label_tokens))
                finished = True
            except TimeoutError:
                message = f"reading it took longer than {self._timeout_s:g} s: split or simplify the document"
                raise UnreadableDocumentError(message) from None
            except (asyncio.IncompleteReadError, OSError):
                message = "reading it used up the memory that one document may use: split the document"
                raise UnreadableDocumentError(message) from None
            finally:
                # Also at cancellation: the worker's answer to this document would come to the next one.
                if not finished:
                    await self._kill()
        return await asyncio.to_thread(unpack_answer, head, body)

    async def close(self) -> None:
        """Ends the worker; safe to call twice."""
        async with self._turn:
            await self._kill()

    async def _running_worker(self) -> asyncio.subprocess.Process:
        if self._worker is not None and self._worker.returncode is None:
            return self._worker
        self._worker = worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", WORKER_MODULE, str(self._artifacts), str(self._memory_bytes)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=worker_environment(),
        )
        ready = False
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await _receive(worker)
            ready = True
        except (TimeoutError, asyncio.IncompleteReadError):
            raise Unavailable(
                "The process that reads documents cannot start; its last words are in the log. "
                "Does QUARTET_ARTIFACTS_DIR hold minilm/tokenizer.json?",
                reason="DOCUMENT_READER_NOT_STARTED",
            ) from None
        finally:
            if not ready:
                await self._kill()
        return worker

    async def _kill(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
            await worker.communicate()


async def _exchange(worker: asyncio.subprocess.Process, request: bytes) -> tuple[bytes, bytes]:
    if worker.stdin is None:
        raise RuntimeError("the worker was started without a pipe")
    worker.stdin.write(request)
    await worker.stdin.drain()
    return await _receive(worker)


async def _receive(worker: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
    if worker.stdout is None:
        raise RuntimeError("the worker was started without a pipe")
    head_bytes, body_bytes = PREFIX.unpack(await worker.stdout.readexactly(PREFIX.size))
    return await worker.stdout.readexactly(head_bytes), await worker.stdout.readexactly(body_bytes)
