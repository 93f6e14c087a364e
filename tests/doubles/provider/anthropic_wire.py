"""Anthropic's wire format: Messages, count_tokens, models, errors."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from tests.doubles.provider.answers import Answer, Prompt, Tool, arguments_json, split, tokens
from tests.doubles.provider.delivery import Stream
from tests.doubles.provider.script import ToolCall, Usage
from tests.doubles.provider.signature import sign

REQUEST_ID = "request-id"
MALFORMED = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"del\n\n'
_PING = b'event: ping\ndata: {"type": "ping"}\n\n'
_STOP_REASON = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool": "tool_use",
}
_ERRORS: Mapping[int, tuple[str, str]] = {
    400: ("invalid_request_error", "The request was refused."),
    401: ("authentication_error", "invalid x-api-key"),
    403: ("permission_error", "Your API key does not have permission to use the specified resource."),
    404: ("not_found_error", "Not found"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your organization's rate limit."),
    500: ("api_error", "Internal server error"),
    504: ("timeout_error", "The request timed out."),
    529: ("overloaded_error", "Overloaded"),
}


def read_prompt(body: Mapping[str, Any]) -> Prompt:
    messages = body["messages"]
    system = _text(body.get("system"))
    texts = [_text(message["content"]) for message in messages]
    results = [_tool_results(message["content"]) for message in messages]
    tools = body.get("tools") or ()
    tools_json = orjson.dumps(tools).decode() if tools else ""
    return Prompt(
        model=body["model"],
        last_text=next(
            (t for m, t in zip(messages[::-1], texts[::-1], strict=True) if m["role"] == "user" and t), ""
        ),
        tool_result="\n".join(results[-1]) if results[-1] else None,
        tools=tuple(Tool(name=tool["name"], schema=tool.get("input_schema") or {}) for tool in tools),
        tool_choice=_tool_choice(body.get("tool_choice")),
        cacheable=tools_json + system if _asks_for_caching(body) else "",
        chars=len(system)
        + len(tools_json)
        + sum(map(len, texts))
        + sum(len(result) for group in results for result in group)
        + 12 * len(texts),
        json_schema=((body.get("output_config") or {}).get("format") or {}).get("schema"),
        max_output_tokens=body.get("max_tokens"),
        stop=body.get("stop_sequences") or (),
        stream=bool(body.get("stream")),
    )


def unary(answer: Answer, model: str, serial: str) -> bytes:
    content: list[dict[str, Any]] = []
    if answer.thinking:
        thinking = "".join(answer.thinking)
        content.append({"type": "thinking", "thinking": thinking, "signature": sign(model, thinking)})
    if answer.text:
        content.append({"type": "text", "text": "".join(answer.text)})
    for index, call in enumerate(answer.tool_calls):
        content.append(_tool_use(call, serial, index) | {"input": orjson.loads(arguments_json(call))})
    return orjson.dumps(
        _message(model, serial)
        | {
            "content": content,
            "stop_reason": _stop_reason(answer),
            "stop_sequence": answer.stop_sequence,
            "usage": _usage(answer.usage) | _tier(answer),
        }
    )


def stream(answer: Answer, model: str, serial: str, body: Mapping[str, Any]) -> Stream:
    start = _message(model, serial) | {
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(answer.usage) | _tier(answer) | {"output_tokens": 1},
    }
    delta = {"stop_reason": _stop_reason(answer), "stop_sequence": answer.stop_sequence}
    closing = _event("message_delta", {"delta": delta, "usage": _usage(answer.usage)}) + _event(
        "message_stop", {}
    )
    opening = _event("message_start", {"message": start})
    pieces = list(_pieces(answer, model, serial))
    if pieces:
        # A ping follows the first block's start, as the vendor's own streams have it.
        first, rest = pieces[0].split(b"\n\n", 1)
        opening += first + b"\n\n" + _PING
        pieces[0] = rest
    return Stream(opening=opening, pieces=pieces, closing=closing)


def _pieces(answer: Answer, model: str, serial: str) -> Iterator[bytes]:
    """Every piece of the answer, the first of a block behind the block's start, the last before its stop."""
    index = 0
    if answer.thinking:
        signature = {"type": "signature_delta", "signature": sign(model, "".join(answer.thinking))}
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in answer.thinking]
        yield from _block(index, {"type": "thinking", "thinking": "", "signature": ""}, [*deltas, signature])
        index += 1
    if answer.text:
        deltas = [{"type": "text_delta", "text": piece} for piece in answer.text]
        yield from _block(index, {"type": "text", "text": ""}, deltas)
        index += 1
    for number, call in enumerate(answer.tool_calls):
        parts = ["", *split(arguments_json(call), 4)]
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        yield from _block(index, _tool_use(call, serial, number) | {"input": {}}, deltas)
        index += 1


def _block(index: int, start: Mapping[str, Any], deltas: Sequence[Mapping[str, Any]]) -> Iterator[bytes]:
    # The parts that are the same in every event are encoded once.
    before = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":' % index
    opened = _event("content_block_start", {"index": index, "content_block": start})
    stopped = _event("content_block_stop", {"index": index})
    last = len(deltas) - 1
    for number, delta in enumerate(deltas):
        event = before + orjson.dumps(delta) + b"}\n\n"
        yield (opened if number == 0 else b"") + event + (stopped if number == last else b"")


def count_tokens(prompt: Prompt) -> bytes:
    return orjson.dumps({"input_tokens": max(1, tokens(prompt.chars))})


def models(names: Sequence[str]) -> bytes:
    data = [
        {
            "type": "model",
            "id": name,
            "display_name": name.replace("-", " ").title(),
            "created_at": "2026-01-01T00:00:00Z",
            "lifecycle": "active",
        }
        for name in names
    ]
    first, last = (names[0], names[-1]) if names else (None, None)
    return orjson.dumps({"data": data, "has_more": False, "first_id": first, "last_id": last})


def model_not_found(model: str) -> bytes:
    return error(404, message=f"model: {model}")


def error(
    status: int, *, message: str | None = None, param: str | None = None, code: str | None = None
) -> bytes:
    """The vendor's error body; it has neither `param` nor `code`."""
    kind, usual_message = _ERRORS.get(status, _ERRORS[500 if status >= 500 else 400])
    fields = {"type": kind, "message": message or usual_message}
    return orjson.dumps({"type": "error", "error": fields, "request_id": None})


def error_event(message: str | None) -> bytes:
    return b"event: error\ndata: " + error(529, message=message) + b"\n\n"


def _event(kind: str, fields: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


def _message(model: str, serial: str) -> dict[str, Any]:
    return {"id": f"msg_{serial}", "type": "message", "role": "assistant", "model": model}


def _tool_use(call: ToolCall, serial: str, index: int) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id or f"toolu_{serial}_{index}", "name": call.name}


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return " ".join(block["text"] for block in content if block.get("type") == "text")


def _tool_results(content: Any) -> list[str]:
    if isinstance(content, str):
        return []
    return [_text(block.get("content")) for block in content if block.get("type") == "tool_result"]


def _tool_choice(choice: Any) -> str:
    match choice:
        case {"type": "tool", "name": name}:
            return f"tool:{name}"
        case {"type": str(kind)}:
            return kind
        case _:
            return "auto"


def _asks_for_caching(body: Mapping[str, Any]) -> bool:
    system = body.get("system")
    blocks = [*(body.get("tools") or ()), *(system if isinstance(system, list) else ())]
    return body.get("cache_control") is not None or any(block.get("cache_control") for block in blocks)


def _stop_reason(answer: Answer) -> str:
    return answer.finish_reason or _STOP_REASON[answer.ended]


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }


def _tier(answer: Answer) -> dict[str, str]:
    """Where a message begins; what is added at the end of a stream does not repeat it."""
    return {"service_tier": answer.service_tier or "standard"}
