"""Canonical requests in OpenAI's Chat Completions format."""

import base64
import itertools
import mimetypes
from collections.abc import Iterator
from typing import Any

from quartet.common.v1.generation_pb2 import GenerationSpec, ResponseFormat, Tool, ToolChoice
from quartet.common.v1.message_pb2 import (
    ROLE_ASSISTANT,
    ROLE_SYSTEM,
    Media,
    Message,
    Part,
    ToolResult,
)
from services.kit.errors import InvalidArgument
from services.router.adapters.extras import add_extra, complete_body, encode_body
from services.router.adapters.rendering import PassageNumbers
from services.router.domain.adaptation import ModelRequest, read_object
from services.router.domain.catalogue import Dialect

_OURS = ("model", "messages", "stream", "max_tokens", "max_completion_tokens")
"""Members that decide what a call is and may cost."""
_CHOICES = {ToolChoice.MODE_AUTO: "auto", ToolChoice.MODE_NONE: "none", ToolChoice.MODE_REQUIRED: "required"}


def encode_request(request: ModelRequest, *, stream: bool) -> bytes:
    """The body of a call.

    `extra_json` adds what the canonical form has no field for, and replaces nothing.
    """
    spec = request.spec
    body: dict[str, Any] = {
        "model": request.model.upstream,
        "messages": list(_messages(request)),
        request.model.traits.output_limit: spec.max_output_tokens,
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    body |= _options(spec)
    complete_body(body, spec, Dialect.OPENAI, ours=_OURS)
    if body.get("n") not in (None, 1):
        raise InvalidArgument.field("n", "one answer for each request: ask again for more")
    if not stream:
        body.pop("stream_options", None)
    return encode_body(body)


def _options(spec: GenerationSpec) -> dict[str, Any]:
    options: dict[str, Any] = {
        name: getattr(spec, name)
        for name in ("temperature", "top_p", "seed", "parallel_tool_calls")
        if spec.HasField(name)
    }
    if spec.stop:
        options["stop"] = list(spec.stop)
    if spec.reasoning.effort:
        options["reasoning_effort"] = spec.reasoning.effort
    if spec.tools:
        options["tools"] = [_tool(tool) for tool in spec.tools]
    if spec.tool_choice.mode == ToolChoice.MODE_NAMED:
        options["tool_choice"] = {"type": "function", "function": {"name": spec.tool_choice.name}}
    elif spec.tool_choice.mode:
        options["tool_choice"] = _CHOICES[spec.tool_choice.mode]
    match spec.response_format.kind:
        case ResponseFormat.KIND_TEXT:
            options["response_format"] = {"type": "text"}
        case ResponseFormat.KIND_JSON_OBJECT:
            options["response_format"] = {"type": "json_object"}
        case ResponseFormat.KIND_JSON_SCHEMA:
            options["response_format"] = {"type": "json_schema", "json_schema": _schema(spec.response_format)}
    return options


def _schema(form: ResponseFormat) -> dict[str, Any]:
    schema: dict[str, Any] = {"name": form.name or "answer"}
    if form.description:
        schema["description"] = form.description
    if form.schema_json:
        schema["schema"] = read_object(form.schema_json, "spec.response_format.schema_json")
    if form.HasField("strict"):
        schema["strict"] = form.strict
    return schema


def _tool(tool: Tool) -> Any:
    if tool.builtin_json:
        return read_object(tool.builtin_json, f"spec.tools[{tool.name}].builtin_json")
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.input_schema_json:
        function["parameters"] = read_object(
            tool.input_schema_json, f"spec.tools[{tool.name}].input_schema_json"
        )
    if tool.HasField("strict"):
        function["strict"] = tool.strict
    return add_extra({"type": "function", "function": function}, tool.extra, Dialect.OPENAI)


def _messages(request: ModelRequest) -> Iterator[dict[str, Any]]:
    numbers = PassageNumbers()
    for turn in request.messages:
        if turn.role == ROLE_ASSISTANT:
            yield from _assistant(turn)
            continue
        results = [part.tool_result for part in turn.parts if part.WhichOneof("kind") == "tool_result"]
        for result in results:
            answered = {"role": "tool", "tool_call_id": result.tool_call_id, "content": _answered(result)}
            yield add_extra(answered, turn.extra, Dialect.OPENAI)
        # Results are text here: pictures that a tool returned follow as the user's.
        shown = [part for result in results for part in result.content if part.WhichOneof("kind") != "text"]
        content = [
            block
            for part in itertools.chain(turn.parts, shown)
            if (block := _content(part, numbers)) is not None
        ]
        if content or not results:
            message = {"role": "system" if turn.role == ROLE_SYSTEM else "user", "content": _shorten(content)}
            if turn.name:
                message["name"] = turn.name
            yield message if results else add_extra(message, turn.extra, Dialect.OPENAI)


def _assistant(turn: Message) -> Iterator[dict[str, Any]]:
    """One message; none of a turn that holds nothing in this dialect, such as another maker's reasoning."""
    message: dict[str, Any] = {"role": "assistant"}
    said = [block for part in turn.parts if (block := _said(part)) is not None]
    calls = [_call(part) for part in turn.parts if part.WhichOneof("kind") == "tool_call"]
    refusals = [part.refusal for part in turn.parts if part.WhichOneof("kind") == "refusal"]
    if said:
        message["content"] = _shorten(said)
    if refusals:
        message["refusal"] = "\n".join(refusals)
    if calls:
        message["tool_calls"] = calls
    if turn.name:
        message["name"] = turn.name
    add_extra(message, turn.extra, Dialect.OPENAI)
    if said or refusals or calls or turn.extra.dialect == Dialect.OPENAI.value:
        yield message


def _said(part: Part) -> dict[str, Any] | None:
    match part.WhichOneof("kind"):
        case "text":
            return add_extra({"type": "text", "text": part.text}, part.extra, Dialect.OPENAI)
        case "opaque" if part.opaque.dialect == Dialect.OPENAI.value:
            return read_object(part.opaque.json, "opaque.json")
        case _:
            return None


def _call(part: Part) -> dict[str, Any]:
    call = part.tool_call
    if call.HasField("input_text"):
        custom = {"name": call.name, "input": call.input_text}
        made = {"id": call.id, "type": "custom", "custom": custom}
    else:
        function = {"name": call.name, "arguments": call.arguments_json or "{}"}
        made = {"id": call.id, "type": "function", "function": function}
    return add_extra(made, part.extra, Dialect.OPENAI)


def _answered(result: ToolResult) -> Any:
    """The texts of a result; a failure is said in words, for which the dialect has no mark."""
    texts = [block for part in result.content if (block := _said(part)) is not None]
    if result.is_error:
        words = "\n".join(block.get("text", "") for block in texts)
        return f"Error: {words}"
    return _shorten(texts)


def _content(part: Part, numbers: PassageNumbers) -> dict[str, Any] | None:
    match part.WhichOneof("kind"):
        case "text" | "opaque":
            return _said(part)
        case "passage":
            return {"type": "text", "text": numbers.render(part.passage)}
        case "image":
            image = {"url": part.image.url or _data_url(part.image)}
            if part.image.detail:
                image["detail"] = part.image.detail
            return add_extra({"type": "image_url", "image_url": image}, part.extra, Dialect.OPENAI)
        case "document":
            return add_extra({"type": "file", "file": _file(part.document)}, part.extra, Dialect.OPENAI)
        case "refusal":
            return {"type": "text", "text": part.refusal}
        case _:
            return None


def _file(document: Media) -> dict[str, str]:
    if document.WhichOneof("source") == "file_id":
        return {"file_id": document.file_id}
    name = document.filename or f"document{mimetypes.guess_extension(document.mime_type) or '.pdf'}"
    return {"filename": name, "file_data": _data_url(document)}


def _data_url(media: Media) -> str:
    return f"data:{media.mime_type};base64,{base64.b64encode(media.data).decode()}"


def _shorten(content: list[dict[str, Any]]) -> Any:
    """Plain text where there is no more: not every server reads lists."""
    if not content:
        return ""
    is_plain = len(content) == 1 and content[0].keys() == {"type", "text"}
    return content[0]["text"] if is_plain else content
