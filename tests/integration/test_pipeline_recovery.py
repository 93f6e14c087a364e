"""A job outlives the process that took it: killed in the middle, it goes on where it stood."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import psycopg

from quartet.common.v1 import document_pb2
from quartet.pipeline.v1 import pipeline_pb2 as pb
from services.kit.client import remote
from services.pipeline.wiring import SERVICE
from tests.doubles.pipeline import make_call, upload, wait_for_job

DOCUMENTS = {f"{number:02}.txt": f"Document number {number}.".encode() for number in range(12)}


async def start(database_url: str, embedded: Path) -> tuple[asyncio.subprocess.Process, str]:
    """The service in a process of its own; it notes each text that it embeds in a file."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.doubles.pipeline_process", str(embedded)),
        stdout=asyncio.subprocess.PIPE,
        env={"DATABASE_URL": database_url, "PIPELINE_EXECUTOR_ID": "replica-1", "PATH": "/usr/bin:/bin"},
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        said = json.loads(await process.stdout.readline())
    return process, said["address"]


async def test_a_job_whose_process_was_killed_is_finished_after_the_restart(
    database_url: str, tmp_path: Path
) -> None:
    embedded = tmp_path / "embedded.txt"
    process, address = await start(database_url, embedded)
    client = remote(SERVICE, address)
    try:
        answer = await client.ingest_documents(upload("space", DOCUMENTS), make_call())
        async with asyncio.timeout(60):
            async for event in client.watch_ingest_job(
                pb.WatchIngestJobRequest(job_id=answer.job.id), make_call()
            ):
                if event.job.done_documents >= 3:
                    break
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await client.close()
    done_before = embedded.read_text(encoding="utf-8").splitlines()
    assert 3 <= len(done_before) < len(DOCUMENTS)

    process, address = await start(database_url, embedded)
    client = remote(SERVICE, address)
    try:
        async with asyncio.timeout(60):
            states = await wait_for_job(client, answer.job.id)
        listed = await client.list_documents(pb.ListDocumentsRequest(collection="space"), make_call())
    finally:
        process.terminate()
        exit_code = await process.wait()
        await client.close()

    assert exit_code == 0
    assert states[-1].state == document_pb2.INGEST_STATE_SUCCEEDED
    assert states[-1].done_documents == states[-1].stored_chunks == len(DOCUMENTS)
    assert [document.source for document in listed.documents] == sorted(DOCUMENTS)
    texts = embedded.read_text(encoding="utf-8").splitlines()
    assert set(texts) == {f"{name}: {text.decode()}" for name, text in DOCUMENTS.items()}
    assert len(texts) <= len(DOCUMENTS) + 1, "only the document that was under way is embedded again"
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        rows = await connection.execute(
            "select count(*) from pipeline.ingest_items where content is not null"
        )
        assert await rows.fetchone() == (0,)
