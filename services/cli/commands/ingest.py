from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.commands.options import JsonOption

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from quartet.common.v1.document_pb2 import IngestJob
    from services.cli.client import Client
    from services.cli.upload import Selection

UPLOAD_TIMEOUT_S = 600.0


def ingest(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH…", exists=True, help="Files and folders: md, txt, html, pdf, docx."),
    ],
    collection: Annotated[
        str, typer.Option("--collection", "-c", help="Where they go; made when it does not exist.")
    ] = "default",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until they can be searched.")] = True,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1, metavar="SECONDS", help="How long to wait at most.")
    ] = 3600,
    json: JsonOption = False,
) -> None:
    """Store documents in a collection, so that questions can be answered from them."""
    from services.cli.render import console
    from services.cli.session import FAILURE, run
    from services.cli.upload import select

    selection = select(paths)
    if not selection.files and not selection.refusals:
        console(stderr=True).print(
            f"error: nothing to ingest: no md, txt, html, pdf or docx file in {', '.join(map(str, paths))}",
            style="red",
        )
        raise typer.Exit(FAILURE)
    run(lambda client: _ingest(client, selection, collection, timeout_s if wait else 0, json=json))


async def _ingest(
    client: "Client", selection: "Selection", collection: str, wait_s: float, *, json: bool
) -> int:
    from dataclasses import asdict

    from quartet.common.v1.document_pb2 import INGEST_STATE_CANCELLED
    from services.cli.jobs import succeeded, total
    from services.cli.progress import counted
    from services.cli.render import console, print_json, printable

    out, notes = console(), console(stderr=True)
    with _progress_bars() as bars:
        try:
            jobs = await _upload(client, selection, collection, bars)
        except OSError as error:
            notes.print(f"error: cannot read {error.filename or 'a file'}: {error.strerror}", style="red")
            return 1
        if wait_s:
            jobs = await _wait(client, jobs, wait_s, bars)
    totals = total(jobs, selection.refusals)
    if json:
        print_json({"collection": collection, **asdict(totals), "ignored": selection.ignored, "jobs": jobs})
    else:
        if not wait_s:
            for job in jobs:
                documents = counted(job.total_documents, "document")
                out.print(f"job {job.id} has {documents}; to follow it: quartet jobs watch {job.id}")
        for line in totals.describe(collection) if wait_s else totals.describe_failures():
            out.print(printable(line))
        for job in jobs:
            if job.state == INGEST_STATE_CANCELLED:
                notes.print(f"job {job.id} was cancelled", style="red")
        if selection.ignored:
            notes.print(f"left aside {counted(selection.ignored, 'file')} of other types", style="dim")
    return 0 if not totals.failed and (not wait_s or succeeded(jobs)) else 1


async def _upload(
    client: "Client", selection: "Selection", collection: str, bars: "Progress"
) -> "list[IngestJob]":
    from services.cli.upload import pieces

    bar = bars.add_task("upload", total=max(selection.size_bytes, 1))
    jobs = []
    for batch in selection.batches():
        stream = pieces(collection, batch, lambda sent: bars.advance(bar, sent))
        response = await client.documents.ingest_documents(stream, client.call(UPLOAD_TIMEOUT_S))
        jobs.append(response.job)
    bars.update(bar, completed=max(selection.size_bytes, 1))
    return jobs


async def _wait(
    client: "Client", jobs: "list[IngestJob]", timeout_s: float, bars: "Progress"
) -> "list[IngestJob]":
    import asyncio
    import time

    from services.cli.jobs import follow
    from services.cli.render import console

    deadline = time.monotonic() + timeout_s
    ended = []
    for job in jobs:
        bar = bars.add_task("store", total=job.total_documents or None)

        def show(job: "IngestJob", bar: "TaskID" = bar) -> None:
            bars.update(bar, completed=job.done_documents, total=job.total_documents or None)

        try:
            ended.append(await follow(client, job.id, max(deadline - time.monotonic(), 0.1), show))
        except asyncio.CancelledError:
            bars.stop()
            console(stderr=True).print(
                f"Not waiting any longer. The job goes on: quartet jobs watch {job.id}"
            )
            raise
    return ended


def _progress_bars() -> "Progress":
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from services.cli.render import console

    notes = console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    disabled = not (notes.is_terminal and console().is_terminal)
    return Progress(*columns, console=notes, disable=disabled, transient=True)
