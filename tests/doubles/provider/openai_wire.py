"""OpenAI's wire format: Chat Completions, embeddings, models, errors."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from tests.doubles.provider.answers import Answer, Prompt, Tool, arguments_json, split, tokens
from tests.doubles.provider.delivery import Stream
from tests.doubles.provider.script import Usage

REQUEST_ID = "x-request-id"
DONE = b"data: [DONE]\n\n"
MALFORMED = b'data: {"id":"chatcmpl-broken","choices":[{"index":0,"del\n\n'
_FINISH = {"stop": "stop", "stop_sequence": "stop", "length": "length", "tool": "tool_calls"}
# Prompts are cached from 1,024 tokens on.
_CACHE_PREFIX_CHARS = 4096
_ERRORS: Mapping[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "The request was refused."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "unsupported_country_region_territory", "The request was forbidden."),
    404: ("invalid_request_error", None, "Not found."),
    413: ("invalid_request_error", None, "The request is too large."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests. Please try again later."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("server_error", None, "The engine is currently overloaded, please try again later."),
}


def read_prompt(body: Mapping[str, Any]) -> Prompt:
    messages = body["messages"]
    texts = [_text(message.get("content")) for message in messages]
    tools = body.get("tools") or ()
    stop = body.get("stop") or ()
    prefix = "\n".join(texts[:-1]) or texts[0]
    return Prompt(
        model=body["model"],
        last_text=next(
            (t for m, t in zip(messages[::-1], texts[::-1], strict=True) if m["role"] == "user"), ""
        ),
        tool_result=texts[-1] if messages[-1]["role"] == "tool" else None,
        tools=tuple(
            Tool(name=tool["function"]["name"], schema=tool["function"].get("parameters") or {})
            for tool in tools
            if "function" in tool
        ),
        tool_choice=_tool_choice(body.get("tool_choice")),
        cacheable=prefix[:_CACHE_PREFIX_CHARS] if len(prefix) >= _CACHE_PREFIX_CHARS else "",
        chars=sum(map(len, texts)) + 12 * len(texts) + (len(orjson.dumps(tools)) if tools else 0),
        json_schema=_json_schema(body.get("response_format")),
        max_output_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        stop=(stop,) if isinstance(stop, str) else stop,
        stream=bool(body.get("stream")),
    )


def unary(answer: Answer, model: str, serial: str) -> bytes:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(answer.text) or None,
        "refusal": None,
        "annotations": [],
    }
    if answer.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id or f"call_{serial}_{index}",
                "type": "function",
                "function": {"name": call.name, "arguments": arguments_json(call)},
            }
            for index, call in enumerate(answer.tool_calls)
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}
    return orjson.dumps(
        {
            "id": f"chatcmpl-{serial}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [choice],
            "usage": _usage(answer.usage),
            "service_tier": answer.service_tier or "default",
            "system_fingerprint": "fp_double",
        }
    )


def stream(answer: Answer, model: str, serial: str, body: Mapping[str, Any]) -> Stream:
    include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    head = orjson.dumps(
        {
            "id": f"chatcmpl-{serial}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
            "service_tier": answer.service_tier or "default",
            "system_fingerprint": "fp_double",
        }
    )[:-1]
    # The parts that are the same in every event are encoded once.
    before = b"data: " + head + b',"choices":[{"index":0,"delta":'
    nothing_yet = b',"usage":null' if include_usage else b""
    after = b',"logprobs":null,"finish_reason":null}]' + nothing_yet + b"}\n\n"

    pieces = [before + b'{"content":' + orjson.dumps(piece) + b"}" + after for piece in answer.text]
    for index, call in enumerate(answer.tool_calls):
        opened = {
            "index": index,
            "id": call.id or f"call_{serial}_{index}",
            "type": "function",
            "function": {"name": call.name, "arguments": ""},
        }
        deltas = [opened]
        deltas += [
            {"index": index, "function": {"arguments": part}} for part in split(arguments_json(call), 4)
        ]
        pieces += [before + orjson.dumps({"tool_calls": [delta]}) + after for delta in deltas]

    finish = orjson.dumps(_finish(answer))
    closing = before + b'{},"logprobs":null,"finish_reason":' + finish + b"}]" + nothing_yet + b"}\n\n"
    if include_usage:
        closing += (
            b"data: " + head + b',"choices":[],"usage":' + orjson.dumps(_usage(answer.usage)) + b"}\n\n"
        )
    return Stream(
        opening=before + b'{"role":"assistant","content":"","refusal":null}' + after,
        pieces=pieces,
        closing=closing + DONE,
    )


def embeddings(vectors: Sequence[list[float] | str], model: str, chars: int) -> bytes:
    data = [
        {"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)
    ]
    count = max(1, tokens(chars))
    usage = {"prompt_tokens": count, "total_tokens": count}
    return orjson.dumps({"object": "list", "data": data, "model": model, "usage": usage})


def models(names: Sequence[str]) -> bytes:
    data = [{"id": name, "object": "model", "created": 1_780_000_000, "owned_by": "system"} for name in names]
    return orjson.dumps({"object": "list", "data": data})


def model_not_found(model: str) -> bytes:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return error(404, message=message, code="model_not_found")


def error(
    status: int, *, message: str | None = None, param: str | None = None, code: str | None = None
) -> bytes:
    kind, usual_code, usual_message = _ERRORS.get(status, _ERRORS[500 if status >= 500 else 400])
    fields = {"message": message or usual_message, "type": kind, "param": param, "code": code or usual_code}
    return orjson.dumps({"error": fields})


def error_event(message: str | None) -> bytes:
    return b"data: " + error(500, message=message) + b"\n\n"


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return " ".join(part["text"] for part in content if part.get("type") == "text")


def _tool_choice(choice: Any) -> str:
    match choice:
        case None | "auto":
            return "auto"
        case "none":
            return "none"
        case {"type": "function", "function": {"name": name}}:
            return f"tool:{name}"
        case _:
            return "any"


def _json_schema(response_format: Any) -> Mapping[str, Any] | None:
    match response_format:
        case {"type": "json_schema", "json_schema": {"schema": dict(schema)}}:
            return schema
        case {"type": "json_object"}:
            return {}
        case _:
            return None


def _finish(answer: Answer) -> str:
    return answer.finish_reason or _FINISH[answer.ended]


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
