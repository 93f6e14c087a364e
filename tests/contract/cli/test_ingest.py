import asyncio
import json
import signal
from pathlib import Path

import pytest

from services.kit.errors import NotFound
from tests.contract.cli.edge import Edge


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "docs" / ".hidden").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n")
    (tmp_path / "docs" / "same.TXT").write_text("same")
    (tmp_path / "docs" / "picture.png").write_bytes(b"png")
    (tmp_path / "docs" / "deep" / "b.html").write_text("<p>B</p>")
    (tmp_path / "docs" / ".hidden" / "c.md").write_text("never")
    return tmp_path


async def test_a_folder_is_sent_with_headers_and_bytes_and_summed_up(edge: Edge, folder: Path) -> None:
    result = await edge.run("ingest", "docs", "docs/a.md", "--collection", "handbook", folder=folder)
    assert result.code == 0, result.err
    assert result.out == "stored 2, unchanged 1, failed 0 in collection handbook (9 new chunks)\n"
    assert result.err == "left aside 1 file of other types\n"
    (upload,) = edge.uploads
    assert upload[0].collection == "handbook"
    headers = [(piece.header.source, piece.header.mime_type) for piece in upload if piece.HasField("header")]
    assert headers == [
        ("docs/a.md", "text/markdown"),
        ("docs/same.TXT", "text/plain"),
        ("docs/deep/b.html", "text/html"),
    ]
    assert [piece.data for piece in upload if piece.HasField("data")] == [b"# A\n", b"same", b"<p>B</p>"]


async def test_a_large_file_goes_in_pieces_of_a_mebibyte(edge: Edge, folder: Path) -> None:
    content = bytes(range(256)) * 10_000
    (folder / "large.txt").write_bytes(content)
    result = await edge.run("ingest", "large.txt", folder=folder)
    assert result.code == 0, result.err
    pieces = [piece.data for piece in edge.uploads[0] if piece.HasField("data")]
    assert [len(piece) for piece in pieces] == [1048576, 1048576, 462848]
    assert b"".join(pieces) == content


async def test_more_documents_than_a_call_takes_go_in_several(edge: Edge, tmp_path: Path) -> None:
    for number in range(1001):
        (tmp_path / f"{number:04}.txt").write_text(str(number))
    result = await edge.run("ingest", ".", folder=tmp_path)
    assert result.code == 0, result.err
    assert result.out.startswith("stored 1001, unchanged 0, failed 0 ")
    counts = [sum(piece.HasField("header") for piece in upload) for upload in edge.uploads]
    assert counts == [1000, 1]


async def test_documents_that_fail_are_named_with_the_reason(edge: Edge, folder: Path) -> None:
    (folder / "scan.pdf").write_bytes(b"%PDF-1.4")
    (folder / "table.xlsx").write_bytes(b"PK")
    result = await edge.run("ingest", "docs/a.md", "scan.pdf", "table.xlsx", folder=folder)
    assert result.code == 1
    assert result.out.splitlines() == [
        "stored 1, unchanged 0, failed 2 in collection default (6 new chunks)",
        "  failed table.xlsx: its type is not read; these are: .md .txt .html .htm .pdf .docx",
        "  failed scan.pdf: it holds no text: is it a scan?",
    ]


async def test_json_sums_up_for_programs(edge: Edge, folder: Path) -> None:
    (folder / "docs" / "scan.pdf").write_bytes(b"%PDF-1.4")
    result = await edge.run("ingest", "docs", "--json", folder=folder)
    assert result.code == 1
    summary = json.loads(result.out)
    assert (summary["stored"], summary["unchanged"], summary["ignored"]) == (2, 1, 1)
    assert summary["failed"] == [
        {"source": "docs/scan.pdf", "reason": "it holds no text: is it a scan?"},
    ]
    assert summary["jobs"][0]["state"] == "INGEST_STATE_FAILED"


async def test_without_waiting_the_job_is_told(edge: Edge, folder: Path) -> None:
    result = await edge.run("ingest", "docs", "--no-wait", folder=folder)
    assert result.code == 0
    assert result.out == "job job-1 has 3 documents; to follow it: quartet jobs watch job-1\n"


async def test_ctrl_c_leaves_the_job_and_says_how_to_see_it(edge: Edge, folder: Path) -> None:
    edge.stuck = True
    async with edge.start("ingest", "docs", folder=folder) as process:
        await asyncio.wait_for(edge.watched.wait(), timeout=30)
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), timeout=30)
    assert process.returncode == 130
    assert err.decode() == "Not waiting any longer. The job goes on: quartet jobs watch job-1\n"


async def test_a_wait_that_is_too_long_ends_and_the_job_goes_on(edge: Edge, folder: Path) -> None:
    edge.stuck = True
    result = await edge.run("ingest", "docs", "--timeout", "1", folder=folder)
    assert result.code == 1
    assert "has not ended after" in result.err
    assert "quartet jobs show job-1" in result.err


async def test_nothing_to_send_is_a_failure(edge: Edge, tmp_path: Path) -> None:
    result = await edge.run("ingest", ".", folder=tmp_path)
    assert result.code == 1
    assert result.err == "error: nothing to ingest: no md, txt, html, pdf or docx file in .\n"


async def test_an_upload_that_is_refused_says_why(edge: Edge, folder: Path) -> None:
    edge.failures["ingest_documents"] = NotFound("there is no such tenant", reason="TENANT_NOT_FOUND")
    result = await edge.run("ingest", "docs", folder=folder)
    assert result.code == 1
    assert result.err.startswith("error: there is no such tenant [TENANT_NOT_FOUND, trace ")


async def test_progress_is_shown_on_a_terminal_only(edge: Edge, folder: Path) -> None:
    result = await edge.run_on_terminal("ingest", "docs", folder=folder)
    assert result.code == 0
    assert "upload" in result.out
    assert "store" in result.out
    assert "stored 2, unchanged 1" in result.out


async def test_a_job_is_shown_followed_and_stopped(edge: Edge, folder: Path) -> None:
    await edge.run("ingest", "docs", "--no-wait", folder=folder)
    shown = await edge.run("jobs", "show", "job-1")
    assert shown.out.splitlines()[0] == "job job-1 succeeded: 3 of 3 documents done"
    watched = await edge.run("jobs", "watch", "job-1")
    assert (watched.code, watched.out) == (0, shown.out)
    cancelled = await edge.run("jobs", "cancel", "job-1", "--json")
    assert json.loads(cancelled.out)["state"] == "INGEST_STATE_CANCELLED"
    watched = await edge.run("jobs", "watch", "job-1")
    assert watched.code == 1


async def test_a_job_that_is_not_there_is_said_to_be_unknown(edge: Edge) -> None:
    result = await edge.run("jobs", "watch", "job-9")
    assert result.code == 1
    assert "there is no job job-9 [JOB_NOT_FOUND" in result.err
