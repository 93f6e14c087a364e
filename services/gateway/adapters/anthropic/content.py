"""Anthropic's content blocks, into the parts of canonical messages."""

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby

from quartet.common.v1 import message_pb2
from services.gateway.adapters.extras import ANTHROPIC, keep_rest, keep_whole
from services.gateway.adapters.fields import Fields, read_base64, refuse

TEXT_TYPE = "text/plain"
Kinds = Mapping[str, Callable[[Fields], message_pb2.Part]]
"""A reader for each type of block."""


def read_turn(message: Fields, role: message_pb2.Role.ValueType) -> Iterator[message_pb2.Message]:
    """The messages of a turn, in its order: each tool result becomes one of its own, as in other dialects."""
    parts = read_blocks(message, "content") or [message_pb2.Part(text="")]
    for is_result, group in groupby(parts, lambda part: part.WhichOneof("kind") == "tool_result"):
        if is_result:
            for part in group:
                yield message_pb2.Message(role=message_pb2.ROLE_TOOL, parts=[part])
        else:
            turn = message_pb2.Message(role=role, parts=list(group))
            # What the application says amid the conversation stays there.
            more = {"role": "system"} if role == message_pb2.ROLE_SYSTEM else {}
            keep_rest(message, turn, ANTHROPIC, **more)
            yield turn


def read_blocks(fields: Fields, name: str, *, kinds: Kinds | None = None) -> list[message_pb2.Part]:
    """The parts of a member that is a string or an array of blocks; `kinds` narrows what may stand there."""
    content = fields.get(name)
    if isinstance(content, str):
        return [message_pb2.Part(text=content)]
    return [_read_block(block, _KINDS if kinds is None else kinds) for block in fields.children(name)]


def _read_block(block: Fields, kinds: Kinds) -> message_pb2.Part:
    kind = block.required_text("type")
    if kind not in kinds:
        if kind in _KINDS or kinds in _NARROW:
            raise refuse(block.path("type"), f"{kind!r} is not offered here: use one of {', '.join(kinds)}")
        return message_pb2.Part(opaque=keep_whole(block, ANTHROPIC))
    part = kinds[kind](block)
    part.cache_control_json = block.raw("cache_control")
    if not part.HasField("extra"):
        keep_rest(block, part, ANTHROPIC)
    return part


def _text(block: Fields) -> message_pb2.Part:
    block.require("text")
    return message_pb2.Part(text=block.text("text"))


def _image(block: Fields) -> message_pb2.Part:
    source = block.required_child("source")
    match source.required_text("type"):
        case "base64":
            return message_pb2.Part(image=_bytes(source))
        case "url" | "file":
            return message_pb2.Part(image=_address(source))
        case _:
            raise refuse(source.path("type"), "must be one of base64, url, file")


def _document(block: Fields) -> message_pb2.Part:
    source = block.required_child("source")
    match source.required_text("type"):
        case "base64":
            media = _bytes(source)
        case "url" | "file":
            media = _address(source)
        case "text":
            source.get("media_type")
            media = message_pb2.Media(mime_type=TEXT_TYPE, data=source.required_text("data").encode())
        case "content":
            # Of its own blocks this dialect cites each by its number: others read the text.
            text = "\n".join(part.text for part in read_blocks(source, "content", kinds=_SOURCE_KINDS))
            media = message_pb2.Media(mime_type=TEXT_TYPE, data=text.encode(), filename=block.text("title"))
            return message_pb2.Part(document=media, extra=keep_whole(block, ANTHROPIC))
        case _:
            raise refuse(source.path("type"), "must be one of base64, text, content, url, file")
    media.filename = block.text("title")
    return message_pb2.Part(document=media)


def _bytes(source: Fields) -> message_pb2.Media:
    data = read_base64(source.required_text("data"), source.path("data"))
    return message_pb2.Media(mime_type=source.required_text("media_type"), data=data)


def _address(source: Fields) -> message_pb2.Media:
    if source.text("type") == "file":
        return message_pb2.Media(file_id=source.required_text("file_id"))
    url = source.required_text("url")
    if not url.startswith(("https://", "http://")):
        raise refuse(source.path("url"), "must be an https: or http: address")
    return message_pb2.Media(url=url)


def _search_result(block: Fields) -> message_pb2.Part:
    texts = [part.text for part in read_blocks(block, "content", kinds=_TEXT_KINDS)]
    passage = message_pb2.Passage(
        title=block.required_text("title"), source=block.required_text("source"), text="\n".join(texts)
    )
    passage.end_char = len(passage.text)
    return message_pb2.Part(passage=passage, extra=keep_whole(block, ANTHROPIC))


def _tool_use(block: Fields) -> message_pb2.Part:
    block.required_child("input")
    call = message_pb2.ToolCall(
        id=block.required_text("id"), name=block.required_text("name"), arguments_json=block.raw("input")
    )
    return message_pb2.Part(tool_call=call)


def _tool_result(block: Fields) -> message_pb2.Part:
    result = message_pb2.ToolResult(
        tool_call_id=block.required_text("tool_use_id"),
        content=read_blocks(block, "content", kinds=_RESULT_KINDS),
        is_error=block.flag("is_error") or False,
    )
    return message_pb2.Part(tool_result=result)


def _thinking(block: Fields) -> message_pb2.Part:
    thinking = message_pb2.Thinking(text=block.text("thinking"), signature=block.text("signature"))
    return message_pb2.Part(thinking=thinking)


def _redacted_thinking(block: Fields) -> message_pb2.Part:
    return message_pb2.Part(thinking=message_pb2.Thinking(redacted_data=block.required_text("data")))


_TEXT_KINDS: Kinds = {"text": _text}
_SOURCE_KINDS: Kinds = {**_TEXT_KINDS, "image": _image}
_NARROW = (_TEXT_KINDS, _SOURCE_KINDS)
"""Where no block of another kind can stand."""
_RESULT_KINDS: Kinds = {
    **_TEXT_KINDS,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
}
_KINDS: Kinds = {
    **_RESULT_KINDS,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "thinking": _thinking,
    "redacted_thinking": _redacted_thinking,
}
