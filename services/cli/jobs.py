"""Ingest jobs as a client sees them: followed to their end, and summed up."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from quartet.common.v1 import document_pb2
from quartet.gateway.v1 import document_pb2 as gateway_document_pb2
from services.cli.client import STREAM_TIMEOUT_S, Client
from services.cli.progress import counted
from services.cli.render import console, enum_word, print_json, printable
from services.cli.upload import Refusal
from services.kit.errors import DeadlineExceeded, Unavailable

MAX_ATTEMPTS = 5
"""To find the edge again, in a row, before a wait is given up."""
PAUSE_S = 1.0

ENDED = frozenset(
    {
        document_pb2.INGEST_STATE_SUCCEEDED,
        document_pb2.INGEST_STATE_FAILED,
        document_pb2.INGEST_STATE_CANCELLED,
    }
)


async def follow(
    client: Client, job_id: str, timeout_s: float, changed: Callable[[document_pb2.IngestJob], None]
) -> document_pb2.IngestJob:
    """Waits for a job's end, over streams that end before it; `changed` is told each state.

    Raises DeadlineExceeded after `timeout_s`, which the job survives, and Unavailable when the edge is lost.
    """
    deadline = time.monotonic() + timeout_s
    failures = 0
    while (remaining_s := deadline - time.monotonic()) > 0:
        request = gateway_document_pb2.WatchIngestJobRequest(job_id=job_id)
        call = client.call(min(remaining_s, STREAM_TIMEOUT_S))
        try:
            async with aclosing(client.documents.watch_ingest_job(request, call)) as events:
                async for event in events:
                    failures = 0
                    changed(event.job)
                    if event.job.state in ENDED:
                        return event.job
            failures += 1
        except DeadlineExceeded:
            pass  # the stream's own time, not the job's
        except Unavailable:
            failures += 1
            if failures >= MAX_ATTEMPTS:
                raise
        if failures >= MAX_ATTEMPTS:
            raise Unavailable("the edge ends the watch before the job ends", reason="WATCH_ENDED")
        await asyncio.sleep(max(0.0, min(PAUSE_S, deadline - time.monotonic())))
    raise DeadlineExceeded(
        f"job {job_id} has not ended after {timeout_s:g} s; it goes on, see `quartet jobs show {job_id}`"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What became of the documents of some jobs, and of the files that were never sent."""

    stored: int
    unchanged: int
    chunks: int
    failed: tuple[Refusal, ...]

    def describe(self, collection: str) -> list[str]:
        """A line of counts, then one for each document that failed and why."""
        counts = (
            f"stored {self.stored}, unchanged {self.unchanged}, failed {len(self.failed)} "
            f"in collection {collection} ({counted(self.chunks, 'new chunk')})"
        )
        return [counts, *self.describe_failures()]

    def describe_failures(self) -> list[str]:
        """A line for each document that failed and why."""
        return [f"  failed {failure.source}: {failure.reason}" for failure in self.failed]


def total(jobs: Sequence[document_pb2.IngestJob], refusals: Sequence[Refusal] = ()) -> Totals:
    """The sums over the jobs."""
    failures = [failure for job in jobs for failure in job.failures]
    unchanged = sum(job.unchanged_documents for job in jobs)
    return Totals(
        stored=sum(job.done_documents for job in jobs) - unchanged - len(failures),
        unchanged=unchanged,
        chunks=sum(job.stored_chunks for job in jobs),
        failed=(
            *refusals,
            *(Refusal(source=failure.source, reason=failure.message) for failure in failures),
        ),
    )


def print_job(job: document_pb2.IngestJob, *, json: bool) -> None:
    """A job on stdout: where it is, and what became of its documents so far."""
    if json:
        print_json(job)
        return
    state = enum_word(document_pb2.IngestState.Name(job.state), "INGEST_STATE_")
    done = f"{job.done_documents} of {counted(job.total_documents, 'document')} done"
    for line in (f"job {job.id} {state}: {done}", *total([job]).describe(job.collection)):
        console().print(printable(line))


def succeeded(jobs: Sequence[document_pb2.IngestJob]) -> bool:
    """Whether every job ended well."""
    return all(job.state == document_pb2.INGEST_STATE_SUCCEEDED for job in jobs)
