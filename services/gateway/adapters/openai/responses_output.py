"""The output items of a response, as whole answers and streams share them."""

from collections.abc import Mapping
from typing import Any

from quartet.common.v1 import generation_pb2, message_pb2
from services.gateway.adapters.extras import OPENAI, read_extra
from services.gateway.adapters.openai.response import read_chunk, write_citation
from services.gateway.adapters.openai.responses_input import seal
from services.gateway.domain.headers import Head

Item = dict[str, Any]
_INCOMPLETE: Mapping[generation_pb2.FinishReason.ValueType, str] = {
    generation_pb2.FINISH_REASON_LENGTH: "max_output_tokens",
    generation_pb2.FINISH_REASON_CONTENT_FILTER: "content_filter",
}
IN_PROGRESS, COMPLETED, INCOMPLETE, FAILED = "in_progress", "completed", "incomplete", "failed"


def response_id(request_id: str) -> str:
    """OpenAI's form of a response's id."""
    return f"resp_{request_id}"


def open_message(head: Head, index: int) -> Item:
    """A message without its content."""
    return {
        "type": "message",
        "id": f"msg_{head.request_id}_{index}",
        "status": IN_PROGRESS,
        "role": "assistant",
        "content": [],
    }


def open_text(part: message_pb2.Part | None = None) -> Item:
    """A content part with the text of an answer."""
    return {
        "type": "output_text",
        "text": part.text if part else "",
        "annotations": [write_annotation(citation) for citation in part.citations] if part else [],
        "logprobs": [],
    }


def open_refusal(text: str = "") -> Item:
    """A content part with the words of a refusal."""
    return {"type": "refusal", "refusal": text}


def read_likelihoods(of_choice: Mapping[str, Any]) -> list[Any]:
    """The tokens' likelihoods, which Chat Completions has with the choice and Responses with the text."""
    logprobs = of_choice.get("logprobs")
    found = logprobs.get("content") if isinstance(logprobs, dict) else None
    return found if isinstance(found, list) else []


def open_call(call: message_pb2.ToolCall, head: Head, index: int) -> Item:
    """A call of a tool, with the arguments that it has so far."""
    if call.HasField("input_text"):
        return {
            "type": "custom_tool_call",
            "id": f"ctc_{head.request_id}_{index}",
            "status": IN_PROGRESS,
            "call_id": call.id,
            "name": call.name,
            "input": call.input_text,
        }
    return {
        "type": "function_call",
        "id": f"fc_{head.request_id}_{index}",
        "status": IN_PROGRESS,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments_json,
    }


def open_reasoning(head: Head, index: int) -> Item:
    """Reasoning without its text."""
    return {
        "type": "reasoning",
        "id": f"rs_{head.request_id}_{index}",
        "summary": [],
        "encrypted_content": None,
        "status": IN_PROGRESS,
    }


def close_reasoning(item: Item, thinking: message_pb2.Thinking) -> None:
    """Writes the text, and what the model wants back, into a reasoning item."""
    item["summary"] = [{"type": "summary_text", "text": thinking.text}] if thinking.text else []
    item["encrypted_content"] = seal(thinking)


def write_items(message: message_pb2.Message, head: Head) -> list[Item]:
    """The output of a whole answer: one message for texts that follow each other, an item for all else."""
    items: list[Item] = []
    for part in message.parts:
        match part.WhichOneof("kind"):
            case "text" | "refusal" as kind:
                if not items or items[-1]["type"] != "message":
                    items.append(open_message(head, len(items)))
                written = open_text(part) if kind == "text" else open_refusal(part.refusal)
                items[-1]["content"].append(written)
            case "tool_call":
                items.append(open_call(part.tool_call, head, len(items)))
            case "thinking":
                item = open_reasoning(head, len(items))
                close_reasoning(item, part.thinking)
                items.append(item)
    return items


def write_annotation(citation: message_pb2.Citation) -> dict[str, Any]:
    """A citation as its provider made it, else in the shape of the vendor's own; ours stands beside it."""
    if own := read_extra(citation.extra, OPENAI):
        nested = own.pop(str(own.get("type")), {})
        return {**own, **nested}
    return {"type": "url_citation", **write_citation(citation)}


def write_usage(usage: generation_pb2.Usage) -> dict[str, Any]:
    """Tokens as the vendor counts them: cached ones within the input's, reasoning within the output's."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def open_response(head: Head, *, model: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """A response without output and usage."""
    return {
        "id": response_id(head.request_id),
        "object": "response",
        "created_at": head.created_s,
        "status": IN_PROGRESS,
        "model": model,
        "output": [],
        "error": None,
        "incomplete_details": None,
        "usage": None,
        "store": False,
        "previous_response_id": None,
        **told,
    }


def status_of(completion: generation_pb2.Completion) -> str:
    """How a response with such an answer ends, and its last item with it."""
    return INCOMPLETE if completion.finish_reason in _INCOMPLETE else COMPLETED


def end_response(
    response: dict[str, Any], completion: generation_pb2.Completion, quartet: Mapping[str, Any], *, at_s: int
) -> None:
    """Writes how a response with all of its output ended, and what it used."""
    response["status"] = status_of(completion)
    if reason := _INCOMPLETE.get(completion.finish_reason):
        response["incomplete_details"] = {"reason": reason}
    else:
        response["completed_at"] = at_s
    response["usage"] = write_usage(completion.usage) | {"quartet": quartet}
    more, _ = read_chunk(completion.extra)
    if tier := more.get("service_tier"):
        response["service_tier"] = tier
