"""The items of OpenAI's Responses, into canonical messages."""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping

from google.protobuf.message import DecodeError

from quartet.common.v1 import message_pb2
from services.gateway.adapters.extras import OPENAI, RESPONSES, keep_rest, keep_whole
from services.gateway.adapters.fields import Fields, refuse
from services.gateway.adapters.openai.content import MAX_MESSAGES, ROLES, read_address

SEALED = "qt1."
"""Before the `encrypted_content` of our reasoning items, which hold what their model wants handed back."""
_STATELESS = "is not offered: nothing is kept here, so send the earlier items in `input`"


def read_input(fields: Fields) -> list[message_pb2.Message]:
    """The messages of `instructions` and `input`; raises InvalidArgument with the item at fault."""
    turns: list[message_pb2.Message] = []
    if instructions := fields.text("instructions"):
        parts = [message_pb2.Part(text=instructions)]
        turns.append(message_pb2.Message(role=message_pb2.ROLE_SYSTEM, parts=parts))
    given = fields.require("input")
    if isinstance(given, str):
        turns.append(message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=given)]))
        return turns
    count = len(fields.items("input"))
    if not 1 <= count < MAX_MESSAGES:
        raise refuse("input", f"must be a string or 1 to {MAX_MESSAGES - 1} items")
    for item in fields.children("input"):
        # Bookkeeping of the vendor's, which its answers have and ours, too.
        item.get("id")
        item.get("status")
        _ITEMS.get(item.text("type", "message" if item.peek("role") else ""), _read_foreign)(item, turns)
    return turns


def seal(thinking: message_pb2.Thinking) -> str | None:
    """Reasoning as `encrypted_content`; None where there is nothing that a model would check."""
    if not (thinking.signature or thinking.redacted_data):
        return None
    return SEALED + base64.b64encode(thinking.SerializeToString()).decode()


def _unseal(text: str, path: str) -> message_pb2.Thinking:
    try:
        return message_pb2.Thinking.FromString(base64.b64decode(text.removeprefix(SEALED), validate=True))
    except (binascii.Error, ValueError, DecodeError):
        raise refuse(path, "was changed: hand it back as it came") from None


def _read_message(item: Fields, turns: list[message_pb2.Message]) -> None:
    role = item.choice("role", ROLES)
    if role == message_pb2.ROLE_TOOL:
        raise refuse(item.path("role"), "must be one of system, developer, user, assistant")
    parts = _read_content(item, "content") or [message_pb2.Part(text="")]
    if role != message_pb2.ROLE_ASSISTANT:
        turn = message_pb2.Message(role=role, parts=parts)
        if item.peek("role") == "developer":
            turn.extra.dialect, turn.extra.json = OPENAI, '{"role":"developer"}'
        turns.append(turn)
        return
    keep_rest(item, parts[0], RESPONSES)
    _say(turns, parts, begins=_SPOKEN)


def _read_call(item: Fields, turns: list[message_pb2.Message]) -> None:
    call = message_pb2.ToolCall(id=item.required_text("call_id"), name=item.required_text("name"))
    if item.text("type") == "custom_tool_call":
        call.input_text = item.text("input")
    else:
        call.arguments_json = item.text("arguments")
    part = message_pb2.Part(tool_call=call)
    keep_rest(item, part, RESPONSES)
    _say(turns, [part], begins=())


def _read_output(item: Fields, turns: list[message_pb2.Message]) -> None:
    item.require("output")
    result = message_pb2.ToolResult(
        tool_call_id=item.required_text("call_id"), content=_read_content(item, "output")
    )
    part = message_pb2.Part(tool_result=result)
    keep_rest(item, part, RESPONSES)
    turns.append(message_pb2.Message(role=message_pb2.ROLE_TOOL, parts=[part]))


def _read_reasoning(item: Fields, turns: list[message_pb2.Message]) -> None:
    sealed = item.text("encrypted_content")
    if not sealed.startswith(SEALED):
        _read_foreign(item, turns)
        return
    thinking = _unseal(sealed, item.path("encrypted_content"))
    _say(turns, [message_pb2.Part(thinking=thinking)], begins=_DONE)


def _refuse_reference(item: Fields, _: list[message_pb2.Message]) -> None:
    raise refuse(item.path("type"), f"'item_reference' {_STATELESS}")


def _read_foreign(item: Fields, turns: list[message_pb2.Message]) -> None:
    """What only the vendor's own tools and models can read."""
    item.required_text("type")
    _say(turns, [message_pb2.Part(opaque=keep_whole(item, RESPONSES))], begins=())


_ITEMS: Mapping[str, Callable[[Fields, list[message_pb2.Message]], None]] = {
    "message": _read_message,
    "function_call": _read_call,
    "custom_tool_call": _read_call,
    "function_call_output": _read_output,
    "custom_tool_call_output": _read_output,
    "reasoning": _read_reasoning,
    "item_reference": _refuse_reference,
}
_SPOKEN = ("text", "refusal", "tool_call", "opaque")
_DONE = ("text", "refusal", "tool_call")


def _say(
    turns: list[message_pb2.Message], parts: Iterable[message_pb2.Part], *, begins: tuple[str, ...]
) -> None:
    """Adds to what the model said: in other dialects a turn's text and all of its calls are one message.

    A new turn begins where the last one already has a part of the kinds in `begins`.
    """
    last = turns[-1] if turns else None
    if (
        last is None
        or last.role != message_pb2.ROLE_ASSISTANT
        or any(part.WhichOneof("kind") in begins for part in last.parts)
    ):
        turns.append(message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=parts))
    else:
        last.parts.extend(parts)


def _read_content(item: Fields, name: str) -> list[message_pb2.Part]:
    content = item.get(name)
    if isinstance(content, str):
        return [message_pb2.Part(text=content)]
    return [_read_part(part) for part in item.children(name)]


def _read_part(part: Fields) -> message_pb2.Part:
    match part.required_text("type"):
        case "input_text":
            read = _text(part)
        case "output_text":
            # Sources and likelihoods that an answer named are no part of a request.
            part.get("annotations")
            part.get("logprobs")
            read = _text(part)
        case "refusal":
            read = message_pb2.Part(refusal=part.required_text("refusal"))
        case "input_image":
            media = _read_media(part, address="image_url")
            media.detail = part.text("detail")
            read = message_pb2.Part(image=media)
        case "input_file":
            read = message_pb2.Part(document=_read_media(part, address="file_url"))
        case kind:
            raise refuse(
                part.path("type"),
                f"{kind!r} is not offered: use input_text, input_image, input_file, output_text or refusal",
            )
    # Chat Completions names these members alike, `prompt_cache_breakpoint` for one.
    keep_rest(part, read, OPENAI)
    return read


def _text(part: Fields) -> message_pb2.Part:
    part.require("text")
    return message_pb2.Part(text=part.text("text"))


def _read_media(part: Fields, *, address: str) -> message_pb2.Media:
    if file_id := part.text("file_id"):
        return message_pb2.Media(file_id=file_id, filename=part.text("filename"))
    data = part.text("file_data")
    if data and not data.startswith("data:"):
        data = f"data:application/pdf;base64,{data}"
    media = read_address(data or part.required_text(address), part.path("file_data" if data else address))
    media.filename = part.text("filename")
    return media
