from datetime import UTC, datetime, timedelta

import pytest

from services.router.adapters.waiting import UNKNOWN_RESET_S, read_rest_s, read_retry_after_s


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 0),
        ({"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "6m0s"}, 0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "17"}, 17),
        ({"x-ratelimit-remaining-tokens": "0"}, UNKNOWN_RESET_S),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "soon 5s"}, UNKNOWN_RESET_S),
    ],
)
def test_openai_says_when_what_is_used_up_comes_back(headers: dict[str, str], expected: float) -> None:
    assert read_rest_s(headers) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["requests", "tokens", "input-tokens", "output-tokens"])
def test_anthropic_says_at_what_time(kind: str) -> None:
    reset = (datetime.now(UTC) + timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    headers = {f"anthropic-ratelimit-{kind}-remaining": "0", f"anthropic-ratelimit-{kind}-reset": reset}
    assert 28 < read_rest_s(headers) <= 30
    assert read_rest_s({**headers, f"anthropic-ratelimit-{kind}-remaining": "7"}) == 0


def test_the_longest_of_several_pauses_counts() -> None:
    headers = {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "9s",
    }
    assert read_rest_s(headers) == 9


def test_retry_after_is_a_number_a_date_or_nothing() -> None:
    assert read_retry_after_s({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert read_retry_after_s({"retry-after": "9"}) == 9
    later = (datetime.now(UTC) + timedelta(seconds=60)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert 57 < (read_retry_after_s({"retry-after": later}) or 0) <= 60
    assert read_retry_after_s({"retry-after": "soon"}) is None
    assert read_retry_after_s({}) is None
