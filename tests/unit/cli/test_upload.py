from pathlib import Path

import pytest

from services.cli.upload import MAX_DOCUMENT_BYTES, File, Selection, pieces, select, source_of


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_has_one_name_however_it_is_written(folder: Path) -> None:
    (folder / "docs").mkdir()
    for path in ("docs/a.md", "./docs/a.md", "docs/../docs/a.md", str(folder / "docs" / "a.md")):
        assert source_of(Path(path)) == "docs/a.md"


def test_a_file_elsewhere_keeps_its_whole_path() -> None:
    assert source_of(Path("/elsewhere/a.md")) == "/elsewhere/a.md"
    assert source_of(Path("../a.md")).startswith("/")


def test_a_file_that_is_named_twice_is_sent_once(folder: Path) -> None:
    (folder / "a.md").write_text("a")
    selection = select([Path("a.md"), Path(), Path("./a.md")])
    assert [file.source for file in selection.files] == ["a.md"]


def test_links_to_folders_are_not_followed(folder: Path) -> None:
    (folder / "docs").mkdir()
    (folder / "docs" / "a.md").write_text("a")
    (folder / "docs" / "again").symlink_to(folder / "docs")
    assert [file.source for file in select([Path("docs")]).files] == ["docs/a.md"]


def test_a_file_over_the_bound_is_refused_before_it_is_sent(folder: Path) -> None:
    with (folder / "huge.txt").open("wb") as file:
        file.truncate(MAX_DOCUMENT_BYTES + 1)
    selection = select([Path("huge.txt")])
    assert selection.files == ()
    assert [(refusal.source, refusal.reason) for refusal in selection.refusals] == [
        ("huge.txt", "it is larger than 64 MiB: split it")
    ]


def test_a_link_to_nothing_is_refused(folder: Path) -> None:
    (folder / "lost.md").symlink_to(folder / "nowhere.md")
    assert "cannot be read" in select([Path()]).refusals[0].reason


def test_batches_hold_what_one_call_takes() -> None:
    files = tuple(File(path=Path(f"{n}.md"), source=f"{n}.md", size_bytes=2) for n in range(2500))
    selection = Selection(files=files, refusals=(), ignored=0)
    assert [len(batch) for batch in selection.batches()] == [1000, 1000, 500]
    assert selection.size_bytes == 5000


async def test_an_upload_that_is_given_up_leaves_no_file_open(folder: Path) -> None:
    (folder / "a.md").write_text("a")
    upload = pieces("default", select([Path("a.md")]).files, lambda _: None)
    sent = [await anext(upload) for _ in range(3)]
    assert sent[-1].data == b"a"
    assert folder / "a.md" not in open_files()


def open_files() -> list[Path]:
    return [descriptor.resolve() for descriptor in Path("/proc/self/fd").iterdir()]
