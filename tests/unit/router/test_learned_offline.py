import csv
import io

import orjson
import pytest

from services.kit.errors import InvalidArgument
from services.router.learned.learned import Learned
from services.router.learned.offline import write_intents, write_scores


@pytest.fixture(scope="module")
def learned() -> Learned:
    return Learned.load()


def lines(*rows: object) -> io.BytesIO:
    return io.BytesIO(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def table(target: io.BytesIO) -> list[list[str]]:
    return list(csv.reader(io.StringIO(target.getvalue().decode())))


def test_scores_stand_in_input_order_under_a_header(learned: Learned) -> None:
    target = io.BytesIO()
    source = lines(
        {"id": "b", "prompt": "Write an essay."}, {"id": "a", "prompt": "hello"}, {"id": 7, "prompt": ""}
    )
    assert write_scores(source, target, learned) == 3
    header, *rows = table(target)
    assert header == ["id", "score"]
    assert [row[0] for row in rows] == ["b", "a", "7"]
    assert float(rows[1][1]) == pytest.approx(learned.uplift("hello"), abs=1e-7)


def test_intents_are_named_by_the_label_set(learned: Learned) -> None:
    target = io.BytesIO()
    source = lines({"id": "1", "prompt": "set an alarm for six"})
    write_intents(source, target, learned, "clinc150")
    assert table(target) == [["id", "intent"], ["1", "alarm"]]


def test_an_identifier_with_a_comma_is_quoted(learned: Learned) -> None:
    target = io.BytesIO()
    write_scores(lines({"id": 'x,"y"', "prompt": "hello"}), target, learned)
    assert table(target)[1][0] == 'x,"y"'


def test_empty_lines_are_skipped_and_a_missing_last_newline_is_no_fault(learned: Learned) -> None:
    target = io.BytesIO()
    source = io.BytesIO(b'\n{"id": "1", "prompt": "a"}\n\n{"id": "2", "prompt": "b"}')
    assert write_scores(source, target, learned) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"prompt": "a"}', "no `id`"),
        (b'{"id": true, "prompt": "a"}', "no `id`"),
        (b'{"id": "1"}', "no `prompt`"),
        (b'{"id": "1", "prompt": 5}', "no `prompt`"),
        (b'{"id": "1", "prompt": "\xff"}', "not JSON"),
    ],
)
def test_a_bad_line_is_named_by_its_number(learned: Learned, line: bytes, reason: str) -> None:
    target = io.BytesIO()
    source = io.BytesIO(b'{"id": "0", "prompt": "a"}\n\n' + line + b"\n")
    with pytest.raises(InvalidArgument, match="Line 3") as caught:
        write_scores(source, target, learned)
    assert reason in str(caught.value)
    assert len(table(target)) == 2


def test_rows_are_written_before_the_next_line_is_read(learned: Learned) -> None:
    target = io.BytesIO()
    seen: list[int] = []

    class Source(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            seen.append(len(target.getvalue().splitlines()))
            return super().readline(size)

    source = Source(lines({"id": "1", "prompt": "a"}, {"id": "2", "prompt": "b"}).getvalue())
    write_scores(source, target, learned)
    assert seen == [1, 2, 3]


def test_an_unknown_label_set_writes_nothing(learned: Learned) -> None:
    target = io.BytesIO()
    with pytest.raises(InvalidArgument):
        write_intents(lines({"id": "1", "prompt": "a"}), target, learned, "atis")
    assert target.getvalue() == b""
