"""Canonical requests in OpenAI's Chat Completions format."""

import base64
import itertools
from collections.abc import Iterator
from typing import Any

import orjson

from quartet.common.v1.generation_pb2 import GenerationSpec, ResponseFormat, Tool, ToolChoice
from quartet.common.v1.message_pb2 import (
    ROLE_ASSISTANT,
    ROLE_SYSTEM,
    Media,
    Message,
    Part,
    ToolCall,
    ToolResult,
)
from services.kit.errors import InvalidArgument
from services.router.adapters.rendering import PassageNumbers
from services.router.domain.adaptation import ModelRequest, read_object

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
    if spec.extra_json:
        extras = read_object(spec.extra_json, "spec.extra_json")
        if extras.get("n") not in (None, 1):
            raise InvalidArgument.field("n", "one answer for each request: ask again for more")
        body = {**extras, **body}
        if not stream:
            body.pop("stream_options", None)
    return orjson.dumps(body)


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
    return {"type": "function", "function": function}


def _messages(request: ModelRequest) -> Iterator[dict[str, Any]]:
    numbers = PassageNumbers()
    for turn in request.messages:
        if turn.role == ROLE_ASSISTANT:
            yield _assistant(turn)
            continue
        results = [part.tool_result for part in turn.parts if part.WhichOneof("kind") == "tool_result"]
        for result in results:
            yield {"role": "tool", "tool_call_id": result.tool_call_id, "content": _result_text(result)}
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
            yield message


def _assistant(turn: Message) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant"}
    texts = [{"type": "text", "text": part.text} for part in turn.parts if part.WhichOneof("kind") == "text"]
    calls = [part.tool_call for part in turn.parts if part.WhichOneof("kind") == "tool_call"]
    refusals = [part.refusal for part in turn.parts if part.WhichOneof("kind") == "refusal"]
    if texts or not (calls or refusals):
        message["content"] = _shorten(texts)
    if refusals:
        message["refusal"] = "\n".join(refusals)
    if calls:
        message["tool_calls"] = [_call(call) for call in calls]
    if turn.name:
        message["name"] = turn.name
    return message


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments_json or "{}"}
    return {"id": call.id, "type": "function", "function": function}


def _result_text(result: ToolResult) -> str:
    text = "\n".join(part.text for part in result.content if part.WhichOneof("kind") == "text")
    return f"Error: {text}" if result.is_error else text


def _content(part: Part, numbers: PassageNumbers) -> dict[str, Any] | None:
    match part.WhichOneof("kind"):
        case "text":
            return {"type": "text", "text": part.text}
        case "passage":
            return {"type": "text", "text": numbers.render(part.passage)}
        case "image":
            image = {"url": part.image.url or _data_url(part.image)}
            if part.image.detail:
                image["detail"] = part.image.detail
            return {"type": "image_url", "image_url": image}
        case "document":
            return {"type": "file", "file": _file(part.document)}
        case "refusal":
            return {"type": "text", "text": part.refusal}
        case _:
            return None


def _file(document: Media) -> dict[str, str]:
    if document.WhichOneof("source") == "file_id":
        return {"file_id": document.file_id}
    return {"filename": document.filename or "document.pdf", "file_data": _data_url(document)}


def _data_url(media: Media) -> str:
    return f"data:{media.mime_type};base64,{base64.b64encode(media.data).decode()}"


def _shorten(content: list[dict[str, Any]]) -> Any:
    """Plain text where there is no more: not every server reads lists."""
    if not content:
        return ""
    return content[0]["text"] if len(content) == 1 and content[0]["type"] == "text" else content
