"""What is left of a provider's object when the members that are read elsewhere are taken away."""

from collections.abc import Mapping
from typing import Any

import orjson

from quartet.common.v1.message_pb2 import Extra
from services.router.domain.catalogue import Dialect

Known = Mapping[str, "Known | None"]
"""The members that are read; those whose own members are read in part, with these."""


def known(names: str, /, **nested: Known) -> Known:
    """A set of members from their names, separated by spaces, and of nested ones."""
    return {**dict.fromkeys(names.split()), **nested}


def remainder(value: Mapping[str, Any], members: Known) -> dict[str, Any]:
    """The members of an object that nobody reads, nulls left out."""
    if value.keys() <= members.keys() and not any(members[name] for name in value):
        return {}
    left: dict[str, Any] = {}
    for name, inner in value.items():
        if inner is None:
            continue
        if name not in members:
            left[name] = inner
        elif (nested := members[name]) and isinstance(inner, Mapping) and (rest := remainder(inner, nested)):
            left[name] = rest
    return left


def pack(value: Mapping[str, Any], dialect: Dialect) -> Extra | None:
    """An object for the clients of the same dialect; None for an empty one."""
    return Extra(dialect=dialect.value, json=orjson.dumps(value).decode()) if value else None
