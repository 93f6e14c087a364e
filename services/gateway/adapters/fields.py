"""Foreign JSON, read once: typed access to the members of an object, with the path in every error."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from services.kit.errors import InvalidArgument

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_OBJECTS = 32_768
"""In a body, at all depths: each costs a few microseconds to read, and holds the loop."""

_LEVELS_AROUND = 16
_MOST_LEVELS = 254 - _LEVELS_AROUND
"""The encoder stops at 254."""


class Fields:
    """An object's members, each read by the type that it must have; null counts as absent.

    What nobody asked for is left in `rest`.
    """

    __slots__ = ("_children", "_path", "_unread", "_values")

    def __init__(self, value: Any, path: str = "") -> None:
        if not isinstance(value, dict):
            raise refuse(path or "body", "must be a JSON object")
        self._values: dict[str, Any] = value
        self._path = path
        self._unread = set(value)
        self._children: dict[str, Fields] = {}

    def path(self, name: str) -> str:
        """The full path of a member, such as `messages[0].content`."""
        return f"{self._path}.{name}" if self._path else name

    def get(self, name: str) -> Any:
        """A member of any type, or None."""
        self._unread.discard(name)
        return self._values.get(name)

    def peek(self, name: str) -> Any:
        """A member that stays unread."""
        return self._values.get(name)

    def require(self, name: str) -> Any:
        """A member of any type that must be there."""
        value = self.get(name)
        if value is None:
            raise refuse(self.path(name), "is required")
        return value

    def text(self, name: str, default: str = "") -> str:
        """A string, or the default."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise refuse(self.path(name), "must be a string")
        return value

    def required_text(self, name: str) -> str:
        """A string that must be there and not be empty."""
        self.require(name)
        value = self.text(name)
        if not value:
            raise refuse(self.path(name), "must not be empty")
        return value

    def flag(self, name: str) -> bool | None:
        """True, false or None."""
        value = self.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise refuse(self.path(name), "must be true or false")

    def integer(self, name: str, *, least: int, most: int = 2**32 - 1) -> int | None:
        """A whole number within bounds, or None."""
        value = self.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise refuse(self.path(name), f"must be a whole number from {least} to {most}")
        return value

    def number(self, name: str, *, least: float, most: float) -> float | None:
        """A number within bounds, or None."""
        value = self.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise refuse(self.path(name), f"must be a number from {least:g} to {most:g}")
        return float(value)

    def choice(self, name: str, choices: Mapping[str, Any]) -> Any:
        """What a required word stands for."""
        word = self.required_text(name)
        if word not in choices:
            raise refuse(self.path(name), f"must be one of {', '.join(choices)}")
        return choices[word]

    def items(self, name: str) -> list[Any]:
        """An array, or none of anything."""
        value = self.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise refuse(self.path(name), "must be an array")
        return value

    def child(self, name: str) -> "Fields | None":
        """An object, or None."""
        value = self.get(name)
        if value is None:
            return None
        child = self._children[name] = Fields(value, self.path(name))
        return child

    def required_child(self, name: str) -> "Fields":
        """An object that must be there."""
        child = self._children[name] = Fields(self.require(name), self.path(name))
        return child

    def children(self, name: str) -> Iterator["Fields"]:
        """The objects of an array."""
        for index, item in enumerate(self.items(name)):
            yield Fields(item, f"{self.path(name)}[{index}]")

    def raw(self, name: str) -> str:
        """A member as JSON text, all of it read; empty when it is absent."""
        value = self.get(name)
        self._children.pop(name, None)
        return "" if value is None else write_json(value, self.path(name))

    def whole(self) -> str:
        """The object itself as JSON text."""
        return write_json(self._values, self._path)

    def rest(self) -> dict[str, Any]:
        """The members that were not read, nulls left out, and those of its objects, as they are nested.

        Objects in arrays have a rest of their own.
        """
        found = {
            name: value for name, value in self._values.items() if name in self._unread and value is not None
        }
        for name, child in self._children.items():
            if inner := child.rest():
                found[name] = inner
        return found


def read_body(body: bytes) -> Fields:
    """The object that a request body holds; raises InvalidArgument when it is none."""
    if len(body) > MAX_BODY_BYTES:
        message = f"the body has {len(body):,} bytes, and the limit is {MAX_BODY_BYTES:,}: send less"
        raise InvalidArgument(message, reason="REQUEST_TOO_LARGE")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        message = f"the body is no valid JSON (line {error.lineno}, column {error.colno}): {error.msg}"
        raise InvalidArgument(message, reason="INVALID_JSON") from None
    # Braces within texts count as well, so that only a closer look may refuse.
    if body.count(b"{") > MAX_OBJECTS and _has_too_many_objects(value):
        message = f"the body has more than {MAX_OBJECTS:,} JSON objects: send fewer at once"
        raise InvalidArgument(message, reason="TOO_MANY_ELEMENTS")
    return Fields(value)


def _has_too_many_objects(value: Any) -> bool:
    left = MAX_OBJECTS
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, dict):
            left -= 1
            if left < 0:
                return True
            inner = inner.values()
        elif not isinstance(inner, list):
            continue
        waiting += [item for item in inner if isinstance(item, dict | list)]
    return False


def write_json(value: Any, path: str) -> str:
    """A value as JSON text; raises InvalidArgument for one that is nested too deep to be written.

    It is written within some levels more, since a provider's request will have it at some depth.
    """
    for _ in range(_LEVELS_AROUND):
        value = [value]
    try:
        return orjson.dumps(value)[_LEVELS_AROUND:-_LEVELS_AROUND].decode()
    except orjson.JSONEncodeError:
        raise refuse(path, f"is nested too deep: {_MOST_LEVELS} levels at most") from None


def read_base64(text: str, path: str) -> bytes:
    """The bytes of a base64 text."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise refuse(path, "must be base64") from None


def refuse(path: str, description: str, *, reason: str = "INVALID_REQUEST") -> InvalidArgument:
    """The error about a member of the body."""
    return InvalidArgument.field(path, description, reason=reason)
