"""A value for a JSON schema: arguments of a tool call, or a structured answer."""

from collections.abc import Mapping
from typing import Any

_MAX_DEPTH = 20


def example_of(schema: Mapping[str, Any], text: str) -> Any:
    """The smallest value that obeys the schema, with `text` for strings; it minds no formats or patterns."""
    return _example(schema, text, schema, 0)


def _example(schema: Mapping[str, Any], text: str, root: Mapping[str, Any], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        return None
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return _example(target, text, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    for choices in ("enum", "anyOf", "oneOf"):
        if schema.get(choices):
            first = schema[choices][0]
            return first if choices == "enum" else _example(first, text, root, depth + 1)
    return _example_of_kind(schema, text, root, depth)


def _example_of_kind(schema: Mapping[str, Any], text: str, root: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    match (kind or ["string"])[0] if isinstance(kind, list) else kind:
        case "object":
            properties = schema.get("properties", {})
            names = schema.get("required", properties)
            return {name: _example(properties.get(name, {}), text, root, depth + 1) for name in names}
        case "array":
            return [_example(schema.get("items", {}), text, root, depth + 1)] * schema.get("minItems", 1)
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return text[: schema.get("maxLength", len(text))]
