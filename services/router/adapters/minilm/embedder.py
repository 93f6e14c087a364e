"""Embeddings from the local model, computed in a worker process so that ingestion never delays a chat."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from services.kit.errors import DeadlineExceeded, InvalidArgument, ResourceExhausted, Unavailable
from services.router.adapters.minilm.process import WorkerError, WorkerProcess
from services.router.adapters.minilm.request import Request, split
from services.router.adapters.minilm.shape import DIMENSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """Vectors of length 1 in the order of the texts.

    Attributes:
        vectors: packed little-endian float32, row by row: 4 * dimension bytes for each text.
        dimension: numbers in one vector.
        token_counts: tokens read of each text, with [CLS] and [SEP]; 256 at most.
    """

    vectors: bytes
    dimension: int
    token_counts: tuple[int, ...]


class MiniLMEmbedder:
    """all-MiniLM-L6-v2 behind a bounded queue; requests take turns, so that none waits for a big one.

    Args:
        directory: holds `model.safetensors` and `tokenizer.json` (`services.kit.artifacts`).
        threads: threads that the worker computes with.
        max_waiting_texts: texts of all requests under way; more are refused.
        start_timeout_s: for the worker to load its model.
        chunk_timeout_s: for one chunk (some 0.1 s of work); a worker that takes longer is killed as hung.
    """

    def __init__(
        self,
        directory: Path,
        *,
        threads: int = 1,
        max_waiting_texts: int = 16_384,
        start_timeout_s: float = 60.0,
        chunk_timeout_s: float = 30.0,
    ) -> None:
        self._directory = directory
        self._threads = threads
        self._max_waiting_texts = max_waiting_texts
        self._start_timeout_s = start_timeout_s
        self._chunk_timeout_s = chunk_timeout_s
        self._waiting_texts = 0
        self._requests: set[Request] = set()
        self._turns: asyncio.Queue[Request] = asyncio.Queue()
        self._worker: WorkerProcess | None = None
        self._starting = asyncio.Lock()
        self._serving: asyncio.Task[None] | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id while there is one."""
        return None if self._worker is None else self._worker.pid

    async def start(self) -> None:
        """Load the model now; without this the first `embed` does.

        Raises:
            Unavailable: the worker cannot start; the message says why.
        """
        await self._running_worker()

    async def close(self) -> None:
        """Fail what waits with Unavailable and end the worker; safe to call twice."""
        self._closed = True
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait([self._serving])
        for request in self._requests:
            request.fail(_closed())
        await self._stop_worker()

    async def embed_text(self, text: str, *, timeout_s: float) -> bytes:
        """The vector of one text, packed float32; raises as `embed`."""
        return (await self.embed([text], timeout_s=timeout_s)).vectors

    async def embed(self, texts: Sequence[str], *, timeout_s: float) -> Embeddings:
        """Embed the texts; no texts give no vectors, an empty text gives the vector of emptiness.

        Cancelling drops the chunks that are not yet at the worker.

        Raises:
            InvalidArgument: a text is not valid Unicode.
            ResourceExhausted: too many texts are waiting.
            DeadlineExceeded: `timeout_s` ran out.
            Unavailable: the worker cannot start, died twice over one chunk, or the embedder is closed.
        """
        if self._closed:
            raise _closed()
        if not texts:
            return Embeddings(vectors=b"", dimension=DIMENSION, token_counts=())
        if self._waiting_texts + len(texts) > self._max_waiting_texts:
            raise ResourceExhausted(
                f"The local embedding model has {self._waiting_texts} texts waiting and takes "
                f"{self._max_waiting_texts} at most. Send fewer at once, or try again later.",
                reason="EMBEDDING_QUEUE_FULL",
                retry_after_s=1.0,
            )
        try:
            request = Request(split(texts), len(texts))
        except TypeError as error:
            raise InvalidArgument.field("texts", f"Send valid Unicode text: {error}.") from error
        self._waiting_texts += len(texts)
        self._requests.add(request)
        self._turns.put_nowait(request)
        self._serve()
        try:
            async with asyncio.timeout(timeout_s):
                await request.done
        except TimeoutError:
            raise DeadlineExceeded(
                f"Embedding {len(texts)} texts took longer than the {timeout_s:g} s left. "
                "Send fewer at once, or allow more time.",
                reason="EMBEDDING_TIMEOUT",
            ) from None
        finally:
            request.done.cancel()
            self._requests.discard(request)
            self._waiting_texts -= len(texts)
        return Embeddings(
            vectors=b"".join(request.rows), dimension=DIMENSION, token_counts=tuple(request.token_counts)
        )

    def _serve(self) -> None:
        if self._serving is None or self._serving.done():
            self._serving = asyncio.create_task(self._take_turns(), name="minilm-turns")

    async def _take_turns(self) -> None:
        """Serve one chunk of the request at the head, which then goes to the tail."""
        while True:
            request = await self._turns.get()
            if request.done.done():
                continue
            chunk = request.chunks.popleft()
            try:
                answer = await self._answer(chunk.content)
            except Unavailable as error:
                request.fail(error)
                continue
            request.accept(chunk, answer)
            if request.chunks:
                self._turns.put_nowait(request)

    async def _answer(self, content: bytes) -> bytes:
        """Exchange one chunk; a worker that dies or hangs over it is replaced once."""
        reason: WorkerError | None = None
        for _ in range(2):
            worker = await self._running_worker()
            try:
                return await worker.exchange(content, timeout_s=self._chunk_timeout_s)
            except WorkerError as error:
                reason = error
                await self._stop_worker(grace_s=0.0)
        raise Unavailable(
            f"The local embedding model's process failed twice over these texts, last: {reason}.",
            reason="EMBEDDING_WORKER_FAILED",
        )

    async def _running_worker(self) -> WorkerProcess:
        async with self._starting:
            if self._closed:
                raise _closed()
            if self._worker is None:
                try:
                    self._worker = await WorkerProcess.start(
                        self._directory, threads=self._threads, timeout_s=self._start_timeout_s
                    )
                except (WorkerError, OSError) as error:
                    raise Unavailable(
                        f"The local embedding model cannot start: {error}",
                        reason="EMBEDDING_WORKER_NOT_STARTED",
                    ) from error
            return self._worker

    async def _stop_worker(self, **options: float) -> None:
        async with self._starting:
            if self._worker is not None:
                worker, self._worker = self._worker, None
                await worker.stop(**options)


def _closed() -> Unavailable:
    return Unavailable("The local embedding model is shut down: this process ends.", reason="EMBEDDER_CLOSED")
