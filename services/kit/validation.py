import protovalidate
from google.protobuf.message import Message
from protovalidate import Violation

from services.kit.errors import InvalidArgument

MAX_VIOLATIONS, MAX_PATH_CHARS = 16, 128
"""Status details travel in headers, bounded to 8 KiB, and a path can hold a key that the caller chose."""

_validator = protovalidate.Validator()


def validate(request: Message) -> None:
    """Checks a request against the rules of its proto; raises InvalidArgument with each field at fault."""
    violations = _validator.collect_violations(request)
    if violations:
        fields = [
            (_path(violation)[:MAX_PATH_CHARS], violation.proto.message)
            for violation in violations[:MAX_VIOLATIONS]
        ]
        message = "; ".join(f"{field}: {what}" if field else what for field, what in fields)
        raise InvalidArgument(message, reason="INVALID_REQUEST", field_violations=fields)


def _path(violation: Violation) -> str:
    path = ""
    for element in violation.proto.field.elements if violation.proto.field else ():
        path += f".{element.field_name}" if path else element.field_name
        subscript = element.subscript
        if subscript is not None:
            value = subscript.value
            path += f'["{value}"]' if isinstance(value, str) else f"[{value}]"
    return path
