"""The members of JSON objects."""

from typing import Any


def lay_over(written: dict[str, Any], more: dict[str, Any]) -> None:
    """Adds members, at all depths; they replace what stands there."""
    for name, value in more.items():
        there = written.get(name)
        if isinstance(value, dict) and isinstance(there, dict):
            lay_over(there, value)
        else:
            written[name] = value
