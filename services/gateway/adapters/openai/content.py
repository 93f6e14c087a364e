"""The messages of OpenAI's Chat Completions, into canonical ones."""

from collections.abc import Callable, Iterator, Mapping

from quartet.common.v1 import message_pb2
from services.gateway.adapters.extras import OPENAI, keep_rest, keep_whole
from services.gateway.adapters.fields import Fields, read_base64, refuse

MAX_MESSAGES = 4096
ROLES: Mapping[str, message_pb2.Role.ValueType] = {
    "system": message_pb2.ROLE_SYSTEM,
    "developer": message_pb2.ROLE_SYSTEM,
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
    "tool": message_pb2.ROLE_TOOL,
}


def read_messages(fields: Fields) -> Iterator[message_pb2.Message]:
    """The messages of a body, 1 to MAX_MESSAGES."""
    fields.require("messages")
    count = len(fields.items("messages"))
    if not 1 <= count <= MAX_MESSAGES:
        raise refuse("messages", f"must have 1 to {MAX_MESSAGES} messages")
    for message in fields.children("messages"):
        role = message.choice("role", ROLES)
        parts = _READERS[role](message)
        read = message_pb2.Message(role=role, name=message.text("name"), parts=parts)
        # For newer models the same as `system`; what was said is what is sent.
        more = {"role": "developer"} if message.peek("role") == "developer" else {}
        keep_rest(message, read, OPENAI, **more)
        yield read


def read_address(address: str, path: str) -> message_pb2.Media:
    """Inline bytes as a `data:` address, or where the provider finds them."""
    if not address.startswith("data:"):
        if not address.startswith(("https://", "http://")):
            raise refuse(path, "must be a data:, https: or http: address")
        return message_pb2.Media(url=address)
    head, comma, data = address.removeprefix("data:").partition(",")
    mime_type, semicolon, encoding = head.rpartition(";")
    if not comma or not semicolon or encoding != "base64":
        raise refuse(path, "must read data:<media type>;base64,<data>")
    return message_pb2.Media(mime_type=mime_type, data=read_base64(data, path))


def _read_said(message: Fields) -> list[message_pb2.Part]:
    """What the application or the user says."""
    parts = _read_content(message)
    if not parts:
        raise refuse(message.path("content"), "is required")
    return parts


def _read_answer(message: Fields) -> list[message_pb2.Part]:
    """What the model said before."""
    parts = [*_read_thinking(message), *_read_content(message)]
    if refusal := message.text("refusal"):
        parts.append(message_pb2.Part(refusal=refusal))
    for call in message.children("tool_calls"):
        part = message_pb2.Part(tool_call=_read_call(call))
        keep_rest(call, part, OPENAI)
        parts.append(part)
    if message.get("function_call") is not None:
        raise refuse(message.path("function_call"), "is OpenAI's old form: use `tool_calls`")
    # Sources that an answer named are no part of a request.
    message.get("annotations")
    return parts or [message_pb2.Part(text="")]


def _read_thinking(message: Fields) -> Iterator[message_pb2.Part]:
    """Reasoning that is bound to its model, as `response` writes it: its text stands there once more."""
    for block in message.children("thinking_blocks"):
        message.get("reasoning_content")
        yield message_pb2.Part(
            thinking=message_pb2.Thinking(
                text=block.text("thinking"),
                signature=block.text("signature"),
                redacted_data=block.text("data"),
            )
        )


def _read_call(call: Fields) -> message_pb2.ToolCall:
    if call.text("type", "function") == "custom":
        custom = call.required_child("custom")
        return message_pb2.ToolCall(
            id=call.required_text("id"), name=custom.required_text("name"), input_text=custom.text("input")
        )
    function = call.required_child("function")
    return message_pb2.ToolCall(
        id=call.required_text("id"),
        name=function.required_text("name"),
        arguments_json=function.text("arguments"),
    )


def _read_result(message: Fields) -> list[message_pb2.Part]:
    """What a tool answered."""
    result = message_pb2.ToolResult(
        tool_call_id=message.required_text("tool_call_id"), content=_read_content(message)
    )
    return [message_pb2.Part(tool_result=result)]


_READERS: Mapping[message_pb2.Role.ValueType, Callable[[Fields], list[message_pb2.Part]]] = {
    message_pb2.ROLE_SYSTEM: _read_said,
    message_pb2.ROLE_USER: _read_said,
    message_pb2.ROLE_ASSISTANT: _read_answer,
    message_pb2.ROLE_TOOL: _read_result,
}


def _read_content(message: Fields) -> list[message_pb2.Part]:
    content = message.get("content")
    if content is None:
        return []
    if isinstance(content, str):
        return [message_pb2.Part(text=content)]
    return [_read_part(part) for part in message.children("content")]


def _read_part(part: Fields) -> message_pb2.Part:
    match part.required_text("type"):
        case "text":
            part.require("text")
            read = message_pb2.Part(text=part.text("text"))
        case "refusal":
            read = message_pb2.Part(refusal=part.required_text("refusal"))
        case "image_url":
            image = part.required_child("image_url")
            media = read_address(image.required_text("url"), image.path("url"))
            media.detail = image.text("detail")
            read = message_pb2.Part(image=media)
        case "file":
            read = message_pb2.Part(document=_read_file(part.required_child("file")))
        case "input_audio":
            raise refuse(part.path("type"), "'input_audio' is not offered: send its words as text")
        case _:
            return message_pb2.Part(opaque=keep_whole(part, OPENAI))
    keep_rest(part, read, OPENAI)
    return read


def _read_file(file: Fields) -> message_pb2.Media:
    if file_id := file.text("file_id"):
        return message_pb2.Media(file_id=file_id, filename=file.text("filename"))
    media = read_address(file.required_text("file_data"), file.path("file_data"))
    media.filename = file.text("filename")
    return media
