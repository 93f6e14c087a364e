"""What a provider's headers say of when to come back."""

import re
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

UNKNOWN_RESET_S = 1.0
"""The pause where nothing is left and the headers do not say until when."""

_ALLOWANCES = (
    ("x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
)
"""OpenAI's and Anthropic's names, by their documentation."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def read_retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds from `retry-after-ms`, or from `retry-after` as a number or a date.

    None when neither can be read.
    """
    milliseconds, seconds = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if milliseconds:
            return max(0.0, float(milliseconds) / 1000)
        if seconds:
            return max(0.0, float(seconds))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(seconds).timestamp() - time.time()) if seconds else None
    except ValueError:
        return None


def read_rest_s(headers: Mapping[str, str]) -> float:
    """Seconds until requests or tokens of which none are left come back; 0 while there are some."""
    rest_s = 0.0
    for remaining, reset in _ALLOWANCES:
        if headers.get(remaining) == "0":
            rest_s = max(rest_s, _read_reset_s(headers.get(reset, "")))
    return rest_s


def _read_reset_s(reset: str) -> float:
    """From a duration such as `6m0s`, as OpenAI writes it, a time as Anthropic does, or plain seconds."""
    parts = _DURATION.findall(reset)
    if parts and "".join(number + unit for number, unit in parts) == reset:
        return sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    try:
        return max(0.0, float(reset))
    except ValueError:
        pass
    try:
        return max(0.0, datetime.fromisoformat(reset).timestamp() - time.time())
    except ValueError:
        return UNKNOWN_RESET_S
