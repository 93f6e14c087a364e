"""Answers in Anthropic's Messages format, whole or in pieces, in canonical form."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from quartet.common.v1 import generation_pb2 as pb
from quartet.common.v1.message_pb2 import ROLE_ASSISTANT, Citation, Message, Part, Thinking, ToolCall
from services.router.adapters.provider import MalformedAnswerError

_FINISH = {
    "end_turn": pb.FINISH_REASON_STOP,
    "max_tokens": pb.FINISH_REASON_LENGTH,
    "model_context_window_exceeded": pb.FINISH_REASON_LENGTH,
    "stop_sequence": pb.FINISH_REASON_STOP_SEQUENCE,
    "tool_use": pb.FINISH_REASON_TOOL_CALLS,
    "pause_turn": pb.FINISH_REASON_PAUSE,
    "refusal": pb.FINISH_REASON_REFUSAL,
}


def decode_completion(body: Any) -> pb.Completion:
    """A whole answer; raises MalformedAnswerError."""
    try:
        parts = [part for block in body["content"] if (part := _part(block)) is not None]
        completion = pb.Completion(
            message=Message(role=ROLE_ASSISTANT, parts=parts or [Part(text="")]),
            usage=_usage(body["usage"]),
            provider_response_id=body.get("id") or "",
        )
        _end(completion, body)
    except (KeyError, TypeError, AttributeError) as error:
        raise MalformedAnswerError(f"no message: {error!r}") from None
    return completion


def _end(completion: pb.Completion, fields: Mapping[str, Any]) -> None:
    reason = fields.get("stop_reason")
    completion.finish_reason = _FINISH.get(reason or "", pb.FINISH_REASON_UNSPECIFIED)
    details = fields.get("stop_details") or {}
    completion.stop_detail = (
        fields.get("stop_sequence") or details.get("explanation") or details.get("category") or ""
    )


def _usage(usage: Mapping[str, Any]) -> pb.Usage:
    """The dialect counts cached and cache-written tokens apart from the input.

    The canonical form within it.
    """
    cached = usage.get("cache_read_input_tokens") or 0
    written = usage.get("cache_creation_input_tokens") or 0
    details = usage.get("output_tokens_details") or {}
    return pb.Usage(
        input_tokens=(usage.get("input_tokens") or 0) + cached + written,
        output_tokens=usage.get("output_tokens") or 0,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=details.get("thinking_tokens") or 0,
    )


def _part(block: Mapping[str, Any]) -> Part | None:
    """The part for a block; None for kinds that the canonical form does not have."""
    match block["type"]:
        case "text":
            return Part(text=block["text"], citations=map(_citation, block.get("citations") or ()))
        case "thinking":
            return Part(thinking=Thinking(text=block["thinking"], signature=block["signature"]))
        case "redacted_thinking":
            return Part(thinking=Thinking(redacted_data=block["data"]))
        case "tool_use":
            arguments = orjson.dumps(block["input"]).decode()
            return Part(tool_call=ToolCall(id=block["id"], name=block["name"], arguments_json=arguments))
        case _:
            return None


def _citation(citation: Mapping[str, Any]) -> Citation:
    return Citation(
        title=citation.get("document_title") or citation.get("title") or "",
        quote=citation.get("cited_text") or "",
        start_char=citation.get("start_char_index") or 0,
        end_char=citation.get("end_char_index") or 0,
    )


class StreamDecoder:
    """Puts the events of one answer together; `is_finished` tells a whole answer from one that broke off."""

    def __init__(self) -> None:
        self.is_finished = False
        self._id = ""
        self._usage: dict[str, Any] = {}
        self._end: Mapping[str, Any] = {}
        self._indexes: dict[int, int] = {}

    def feed(self, event: Mapping[str, Any]) -> Iterator[pb.Delta]:
        """The deltas of an event; raises MalformedAnswerError."""
        try:
            match event["type"]:
                case "content_block_delta":
                    yield from self._continue(event["index"], event["delta"])
                case "content_block_start":
                    yield from self._begin(event["index"], event["content_block"])
                case "message_start":
                    self._id = event["message"]["id"]
                    self._usage.update(event["message"]["usage"])
                case "message_delta":
                    self._end = event["delta"]
                    counts = event.get("usage") or {}
                    self._usage.update((name, count) for name, count in counts.items() if count is not None)
                case "message_stop":
                    self.is_finished = True
        except (KeyError, TypeError, AttributeError) as error:
            raise MalformedAnswerError(f"no event of a message: {error!r}") from None

    @property
    def is_last(self) -> bool:
        """Nothing follows the event that ends the message."""
        return self.is_finished

    def completion(self) -> pb.Completion:
        """The end of the answer, without its message."""
        completion = pb.Completion(usage=_usage(self._usage), provider_response_id=self._id)
        _end(completion, self._end)
        return completion

    def _begin(self, index: int, block: Mapping[str, Any]) -> Iterator[pb.Delta]:
        kind = block["type"]
        if kind not in ("text", "thinking", "redacted_thinking", "tool_use"):
            return
        place = self._indexes[index] = len(self._indexes)
        if kind == "tool_use":
            yield pb.Delta(tool_call=ToolCall(id=block["id"], name=block["name"]), part_index=place)
        elif kind == "redacted_thinking":
            yield pb.Delta(thinking=Thinking(redacted_data=block["data"]), part_index=place)
        elif block.get(kind):
            yield from self._continue(index, {"type": f"{kind}_delta", kind: block[kind]})

    def _continue(self, index: int, delta: Mapping[str, Any]) -> Iterator[pb.Delta]:
        place = self._indexes.get(index)
        if place is None:
            return
        match delta["type"]:
            case "text_delta" if delta["text"]:
                yield pb.Delta(text=delta["text"], part_index=place)
            case "input_json_delta" if delta["partial_json"]:
                yield pb.Delta(tool_call=ToolCall(arguments_json=delta["partial_json"]), part_index=place)
            case "thinking_delta" if delta["thinking"]:
                yield pb.Delta(thinking=Thinking(text=delta["thinking"]), part_index=place)
            case "signature_delta":
                yield pb.Delta(thinking=Thinking(signature=delta["signature"]), part_index=place)
            case "citations_delta":
                yield pb.Delta(citation=_citation(delta["citation"]), part_index=place)
