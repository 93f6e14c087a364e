"""OpenAI's Chat Completions request, into the canonical prompt."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from quartet.common.v1 import generation_pb2, message_pb2
from quartet.router.v1 import router_pb2
from services.gateway.adapters.fields import Fields, read_base64, read_body, refuse, write_json
from services.gateway.domain.front import Order
from services.gateway.domain.targets import parse_target

MAX_MESSAGES = 4096
_INT64 = 2**63
_ROLES: Mapping[str, message_pb2.Role.ValueType] = {
    "system": message_pb2.ROLE_SYSTEM,
    "developer": message_pb2.ROLE_SYSTEM,
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
    "tool": message_pb2.ROLE_TOOL,
}
_MODES: Mapping[str, generation_pb2.ToolChoice.Mode.ValueType] = {
    "auto": generation_pb2.ToolChoice.MODE_AUTO,
    "none": generation_pb2.ToolChoice.MODE_NONE,
    "required": generation_pb2.ToolChoice.MODE_REQUIRED,
}
_REMEDIES: Mapping[str, str] = {
    "functions": "is OpenAI's old form: declare them in `tools`",
    "function_call": "is OpenAI's old form: use `tool_choice`",
    "audio": "is not offered: ask for text",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A chat request and how its answer is to be written."""

    order: Order
    model: str
    stream: bool
    include_usage: bool


def read_chat(body: bytes) -> ChatRequest:
    """Reads the body; raises InvalidArgument with the member at fault.

    Members that only one provider knows, such as `logprobs`, go on in `extra_json` unchanged.
    """
    fields = read_body(body)
    model = fields.required_text("model")
    target = parse_target(model)
    _refuse_unsupported(fields)
    stream = fields.flag("stream") or False
    options = fields.child("stream_options")
    prompt = router_pb2.Prompt(spec=_read_spec(fields))
    _read_messages(fields, prompt)
    rest = fields.rest()
    if rest:
        prompt.spec.extra_json = write_json(rest, "body")
        prompt.spec.extra_dialect = "openai"
    include_usage = bool(options and options.flag("include_usage"))
    return ChatRequest(order=Order(target, prompt), model=model, stream=stream, include_usage=include_usage)


def _refuse_unsupported(fields: Fields) -> None:
    if (fields.integer("n", least=1, most=128) or 1) > 1:
        raise refuse("n", "must be 1: ask again for another answer")
    for name, remedy in _REMEDIES.items():
        if fields.get(name) is not None:
            raise refuse(name, remedy)
    if any(modality != "text" for modality in fields.items("modalities")):
        raise refuse("modalities", "must be text alone")


def _read_spec(fields: Fields) -> generation_pb2.GenerationSpec:
    limit = fields.integer("max_tokens", least=1)
    spec = generation_pb2.GenerationSpec(
        max_output_tokens=fields.integer("max_completion_tokens", least=1) or limit,
        temperature=fields.number("temperature", least=0, most=2),
        top_p=_top_p(fields),
        stop=_stop(fields),
        parallel_tool_calls=fields.flag("parallel_tool_calls"),
        seed=fields.integer("seed", least=-_INT64, most=_INT64 - 1),
    )
    for tool in fields.children("tools"):
        spec.tools.append(_read_tool(tool))
    _read_tool_choice(fields, spec)
    _read_format(fields, spec)
    if effort := fields.text("reasoning_effort"):
        spec.reasoning.effort = effort
    return spec


def _top_p(fields: Fields) -> float | None:
    top_p = fields.number("top_p", least=0, most=1)
    if top_p == 0:
        raise refuse("top_p", "must be above 0; for the likeliest words set `temperature` to 0")
    return top_p


def _stop(fields: Fields) -> list[str]:
    value = fields.get("stop")
    texts = [value] if isinstance(value, str) else fields.items("stop")
    if len(texts) > 16 or not all(isinstance(text, str) and 0 < len(text) <= 1024 for text in texts):
        raise refuse("stop", "must be a string or at most 16 of them, each of 1 to 1,024 characters")
    return texts


def _read_tool(tool: Fields) -> generation_pb2.Tool:
    if tool.required_text("type") != "function":
        kind = tool.text("type")
        named = tool.child(kind)
        return generation_pb2.Tool(
            name=named.text("name") or kind if named else kind, builtin_json=tool.whole()
        )
    function = tool.required_child("function")
    return generation_pb2.Tool(
        name=function.required_text("name"),
        description=function.text("description"),
        input_schema_json=function.raw("parameters"),
        strict=function.flag("strict"),
    )


def _read_tool_choice(fields: Fields, spec: generation_pb2.GenerationSpec) -> None:
    choice = fields.get("tool_choice")
    if choice is None:
        return
    if isinstance(choice, str):
        if choice not in _MODES:
            raise refuse("tool_choice", f"must be one of {', '.join(_MODES)}, or an object")
        spec.tool_choice.mode = _MODES[choice]
        return
    named = Fields(choice, "tool_choice")
    kind = named.required_text("type")
    if kind not in ("function", "custom"):
        raise refuse("tool_choice.type", "must be function or custom")
    spec.tool_choice.mode = generation_pb2.ToolChoice.MODE_NAMED
    spec.tool_choice.name = named.required_child(kind).required_text("name")


def _read_format(fields: Fields, spec: generation_pb2.GenerationSpec) -> None:
    wanted = fields.child("response_format")
    if wanted is None:
        return
    form = spec.response_format
    match wanted.required_text("type"):
        case "text":
            form.kind = generation_pb2.ResponseFormat.KIND_TEXT
        case "json_object":
            form.kind = generation_pb2.ResponseFormat.KIND_JSON_OBJECT
        case "json_schema":
            schema = wanted.required_child("json_schema")
            form.kind = generation_pb2.ResponseFormat.KIND_JSON_SCHEMA
            form.name = schema.required_text("name")
            form.description = schema.text("description")
            form.schema_json = schema.raw("schema")
            strict = schema.flag("strict")
            if strict is not None:
                form.strict = strict
        case _:
            raise refuse("response_format.type", "must be one of text, json_object, json_schema")


def _read_messages(fields: Fields, prompt: router_pb2.Prompt) -> None:
    fields.require("messages")
    count = len(fields.items("messages"))
    if not 1 <= count <= MAX_MESSAGES:
        raise refuse("messages", f"must have 1 to {MAX_MESSAGES} messages")
    for message in fields.children("messages"):
        role = message.choice("role", _ROLES)
        prompt.messages.append(
            message_pb2.Message(role=role, name=message.text("name"), parts=_READERS[role](message))
        )


def _read_said(message: Fields) -> list[message_pb2.Part]:
    """What the application or the user says."""
    parts = _read_content(message)
    if not parts:
        raise refuse(message.path("content"), "is required")
    return parts


def _read_answer(message: Fields) -> list[message_pb2.Part]:
    """What the model said before."""
    parts = _read_content(message)
    if refusal := message.text("refusal"):
        parts.append(message_pb2.Part(refusal=refusal))
    for call in message.children("tool_calls"):
        function = call.required_child("custom" if call.text("type") == "custom" else "function")
        parts.append(
            message_pb2.Part(
                tool_call=message_pb2.ToolCall(
                    id=call.required_text("id"),
                    name=function.required_text("name"),
                    arguments_json=function.text("arguments") or function.text("input"),
                )
            )
        )
    if message.get("function_call") is not None:
        raise refuse(message.path("function_call"), "is OpenAI's old form: use `tool_calls`")
    return parts or [message_pb2.Part(text="")]


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
            return message_pb2.Part(text=part.text("text"))
        case "refusal":
            return message_pb2.Part(refusal=part.required_text("refusal"))
        case "image_url":
            image = part.required_child("image_url")
            media = _read_address(image.required_text("url"), image.path("url"))
            media.detail = image.text("detail")
            return message_pb2.Part(image=media)
        case "file":
            return message_pb2.Part(document=_read_file(part.required_child("file")))
        case kind:
            raise refuse(part.path("type"), f"{kind!r} is not offered: use text, image_url, file or refusal")


def _read_file(file: Fields) -> message_pb2.Media:
    if file_id := file.text("file_id"):
        return message_pb2.Media(file_id=file_id, filename=file.text("filename"))
    media = _read_address(file.required_text("file_data"), file.path("file_data"))
    media.filename = file.text("filename")
    return media


def _read_address(address: str, path: str) -> message_pb2.Media:
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
