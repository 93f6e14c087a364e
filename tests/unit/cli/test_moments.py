from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.moments import read_span

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@given(st.integers(0, 99_999), st.sampled_from(sorted(SECONDS)))
def test_a_span_is_its_number_of_units(number: int, unit: str) -> None:
    assert read_span(f"{number}{unit}") == timedelta(seconds=number * SECONDS[unit])


@given(st.text(max_size=12))
def test_any_other_text_is_refused_with_what_to_write(text: str) -> None:
    try:
        span = read_span(text)
    except ValueError as error:
        assert "write 30s" in str(error)  # noqa: PT017 - most texts are refused, and some are spans
    else:
        assert span >= timedelta()
        assert text.isascii()
        assert text == "0" or (text[:-1].isdigit() and text[-1] in SECONDS)


@pytest.mark.parametrize(
    "text", ["", "1", "-1d", "1.5h", "1 d", "1D", "1d\n", "1w", "d", "100000d", "٣d", "1h30m"]
)
def test_a_span_is_never_guessed(text: str) -> None:
    with pytest.raises(ValueError, match="no length of time"):
        read_span(text)
