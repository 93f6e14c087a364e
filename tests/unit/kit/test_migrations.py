from pathlib import Path

import pytest

from services.kit.migrations import Migration, read_migrations


def test_the_steps_of_a_folder_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "0002_titles.sql").write_text("select 2")
    (tmp_path / "0001_notes.sql").write_text("select 1")
    (tmp_path / "README.md").write_text("not a step")
    assert read_migrations(tmp_path) == [
        Migration(number=1, name="notes", text="select 1"),
        Migration(number=2, name="titles", text="select 2"),
    ]


def test_a_service_without_a_folder_has_no_steps(tmp_path: Path) -> None:
    assert read_migrations(tmp_path / "none") == []


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["0002_titles.sql"], "0001_name.sql"),
        (["0001_notes.sql", "0003_more.sql"], "0002_name.sql"),
        (["0001_notes.sql", "0001_other.sql"], "0002_name.sql"),
        (["notes.sql"], "0001_name.sql"),
    ],
)
def test_a_gap_a_double_number_and_another_name_are_refused(
    tmp_path: Path, names: list[str], expected: str
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"expected a file named {expected}"):
        read_migrations(tmp_path)


def test_a_step_is_known_by_its_text() -> None:
    step = Migration(number=1, name="notes", text="select 1")
    assert step.checksum == Migration(number=9, name="other", text="select 1").checksum
    assert step.checksum != Migration(number=1, name="notes", text="select 1;").checksum
