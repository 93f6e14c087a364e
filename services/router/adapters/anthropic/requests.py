"""Canonical requests in Anthropic's Messages format."""

import base64
from collections.abc import Iterable, Iterator
from typing import Any

from quartet.common.v1.generation_pb2 import GenerationSpec, ResponseFormat, Tool, ToolChoice
from quartet.common.v1.message_pb2 import (
    ROLE_ASSISTANT,
    ROLE_SYSTEM,
    Media,
    Message,
    Part,
    Thinking,
    ToolCall,
    ToolResult,
)
from services.router.adapters.extras import add_extra, complete_body, encode_body
from services.router.adapters.rendering import PassageNumbers
from services.router.domain.adaptation import ModelRequest, read_object
from services.router.domain.catalogue import Dialect

JSON_INSTRUCTION = "Answer with one JSON object and nothing else."
"""Stands for a form that the dialect does not have."""

BETA = "anthropic-beta"
_OURS = ("model", "messages", "stream", "max_tokens", BETA)
"""Members that decide what a call is and may cost, and the one that is a header."""
_EMPTY_SCHEMA = {"type": "object", "properties": {}}
_ROLES = {ROLE_ASSISTANT: "assistant", ROLE_SYSTEM: "system"}
_CHOICES = {ToolChoice.MODE_AUTO: "auto", ToolChoice.MODE_NONE: "none", ToolChoice.MODE_REQUIRED: "any"}
_PLAIN_TEXT = "text/plain"

Block = dict[str, Any]


def encode_request(request: ModelRequest, *, stream: bool) -> bytes:
    """The body of a call.

    `extra_json` adds what the canonical form has no field for, and replaces nothing.
    """
    spec = request.spec
    numbers = PassageNumbers()
    body: dict[str, Any] = {
        "model": request.model.upstream,
        "max_tokens": spec.max_output_tokens,
        "messages": _messages(request, numbers),
    }
    system = list(_system(request, numbers))
    if system:
        body["system"] = system
    if stream:
        body["stream"] = True
    body |= _options(spec)
    complete_body(body, spec, Dialect.ANTHROPIC, ours=_OURS)
    return encode_body(body)


def beta_of(spec: GenerationSpec) -> str:
    """The client's header that switches parts of the API on; empty for none."""
    texts = (extra.json for extra in spec.extras if extra.dialect == Dialect.ANTHROPIC.value)
    beta = next((found for text in texts if (found := read_object(text, "spec.extras").get(BETA))), "")
    return beta if isinstance(beta, str) and beta.isascii() and beta.isprintable() else ""


def uses_sampling(spec: GenerationSpec) -> bool:
    """Whether the body holds sampling parameters, which the newest version of the API has no more."""
    return any(spec.HasField(name) for name in ("temperature", "top_p", "top_k"))


def _options(spec: GenerationSpec) -> dict[str, Any]:
    options: dict[str, Any] = {
        name: getattr(spec, name) for name in ("temperature", "top_p", "top_k") if spec.HasField(name)
    }
    if spec.stop:
        options["stop_sequences"] = list(spec.stop)
    if spec.tools:
        options["tools"] = [_tool(tool) for tool in spec.tools]
        choice = _tool_choice(spec)
        if choice:
            options["tool_choice"] = choice
    if spec.reasoning.mode:
        options["thinking"] = {"type": spec.reasoning.mode}
        if spec.reasoning.HasField("budget_tokens"):
            options["thinking"]["budget_tokens"] = spec.reasoning.budget_tokens
    output: dict[str, Any] = {}
    if spec.reasoning.effort:
        output["effort"] = spec.reasoning.effort
    if spec.response_format.kind == ResponseFormat.KIND_JSON_SCHEMA:
        schema = read_object(spec.response_format.schema_json or "{}", "spec.response_format.schema_json")
        output["format"] = {"type": "json_schema", "schema": schema}
    if output:
        options["output_config"] = output
    return options


def _tool(tool: Tool) -> Any:
    if tool.builtin_json:
        return read_object(tool.builtin_json, f"spec.tools[{tool.name}].builtin_json")
    declared: dict[str, Any] = {"name": tool.name}
    if tool.description:
        declared["description"] = tool.description
    field = f"spec.tools[{tool.name}].input_schema_json"
    declared["input_schema"] = (
        read_object(tool.input_schema_json, field) if tool.input_schema_json else _EMPTY_SCHEMA
    )
    if tool.HasField("strict"):
        declared["strict"] = tool.strict
    return add_extra(_cached(declared, tool.cache_control_json), tool.extra, Dialect.ANTHROPIC)


def _tool_choice(spec: GenerationSpec) -> dict[str, Any]:
    choice: dict[str, Any] = {}
    if spec.tool_choice.mode == ToolChoice.MODE_NAMED:
        choice = {"type": "tool", "name": spec.tool_choice.name}
    elif spec.tool_choice.mode:
        choice = {"type": _CHOICES[spec.tool_choice.mode]}
    if spec.HasField("parallel_tool_calls") and choice.get("type") != "none":
        choice = choice or {"type": "auto"}
        choice["disable_parallel_tool_use"] = not spec.parallel_tool_calls
    return choice


def _system(request: ModelRequest, numbers: PassageNumbers) -> Iterator[Block]:
    for turn in request.messages:
        if turn.role == ROLE_SYSTEM and not _stays(turn):
            yield from _blocks(turn.parts, request, numbers)
    if request.spec.response_format.kind == ResponseFormat.KIND_JSON_OBJECT:
        yield {"type": "text", "text": JSON_INSTRUCTION}


def _stays(turn: Message) -> bool:
    """Whether a client of this dialect said it amid the conversation, where a model may heed it there."""
    return turn.extra.dialect == Dialect.ANTHROPIC.value and '"role"' in turn.extra.json


def _messages(request: ModelRequest, numbers: PassageNumbers) -> list[Block]:
    """Turns of one side are joined.

    The results of parallel tool calls must stand in one message, and first in it.
    """
    messages: list[Block] = []
    for turn in request.messages:
        if turn.role == ROLE_SYSTEM and not _stays(turn):
            continue
        role = _ROLES.get(turn.role, "user")
        blocks = list(_blocks(turn.parts, request, numbers))
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        elif blocks:
            messages.append(add_extra({"role": role, "content": blocks}, turn.extra, Dialect.ANTHROPIC))
    for message in messages:
        message["content"].sort(key=lambda block: block["type"] != "tool_result")
    return messages


def _blocks(parts: Iterable[Part], request: ModelRequest, numbers: PassageNumbers) -> Iterator[Block]:
    for part in parts:
        block = _block(part, request, numbers)
        if block is not None:
            yield add_extra(_cached(block, part.cache_control_json), part.extra, Dialect.ANTHROPIC)


def _block(part: Part, request: ModelRequest, numbers: PassageNumbers) -> Block | None:
    match part.WhichOneof("kind"):
        case "text" | "refusal":
            text = part.text or part.refusal
            # The API refuses blocks of empty text.
            return {"type": "text", "text": text} if text else None
        case "passage":
            return {"type": "text", "text": numbers.render(part.passage)}
        case "image":
            return {"type": "image", "source": _source(part.image)}
        case "document":
            return _document(part.document)
        case "tool_call":
            return _tool_use(part.tool_call)
        case "tool_result":
            return _tool_result(part.tool_result, request, numbers)
        case "thinking" if request.keeps_thinking:
            return _thinking(part.thinking)
        case "opaque" if part.opaque.dialect == Dialect.ANTHROPIC.value:
            return read_object(part.opaque.json, "opaque.json")
        case _:
            return None


def _document(document: Media) -> Block:
    block: Block = {"type": "document", "source": _source(document)}
    if document.filename:
        block["title"] = document.filename
    return block


def _tool_result(result: ToolResult, request: ModelRequest, numbers: PassageNumbers) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": result.tool_call_id}
    content = list(_blocks(result.content, request, numbers))
    if content:
        block["content"] = content
    if result.is_error:
        block["is_error"] = True
    return block


def _tool_use(call: ToolCall) -> Block:
    if call.HasField("input_text"):
        return {"type": "tool_use", "id": call.id, "name": call.name, "input": {"input": call.input_text}}
    arguments = read_object(call.arguments_json or "{}", f"messages: arguments of the call {call.id}")
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def _thinking(thinking: Thinking) -> Block | None:
    if thinking.redacted_data:
        return {"type": "redacted_thinking", "data": thinking.redacted_data}
    if not thinking.signature:
        # Of another maker's model, whose reasoning this one would refuse.
        return None
    return {"type": "thinking", "thinking": thinking.text, "signature": thinking.signature}


def _source(media: Media) -> dict[str, str]:
    match media.WhichOneof("source"):
        case "url":
            return {"type": "url", "url": media.url}
        case "file_id":
            return {"type": "file", "file_id": media.file_id}
        case _ if media.mime_type == _PLAIN_TEXT:
            text = media.data.decode("utf-8", errors="replace")
            return {"type": "text", "media_type": _PLAIN_TEXT, "data": text}
        case _:
            data = base64.b64encode(media.data).decode()
            return {"type": "base64", "media_type": media.mime_type, "data": data}


def _cached(block: dict[str, Any], cache_control_json: str) -> dict[str, Any]:
    if cache_control_json:
        block["cache_control"] = read_object(cache_control_json, "cache_control_json")
    return block
