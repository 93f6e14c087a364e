"""An answer as Anthropic's events, from `message_start` to `message_stop`."""

from typing import Any

import orjson

from quartet.common.v1 import decision_pb2, generation_pb2, message_pb2
from services.gateway.adapters.anthropic.response import (
    message_id,
    open_block,
    write_citation,
    write_stop,
    write_usage,
)
from services.gateway.domain.dispatch import Event
from services.gateway.domain.headers import Head, facts

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_AFTER_DELTA = b"}}\n\n"


class EventWriter:
    """Writes the frames of one stream; what is the same in all deltas of a block is encoded once.

    Args:
        input_tokens: As counted or estimated before; the true number comes with the last usage.
    """

    def __init__(self, *, head: Head, model: str, input_tokens: int) -> None:
        self._head = head
        self._model = model
        self._input_tokens = input_tokens
        self._decision = decision_pb2.Decision()
        self._block: tuple[int, str] | None = None
        """The open block, by the part that it shows and its kind."""
        self._index = -1
        self._before_text = b""
        self._citations: list[message_pb2.Citation] = []

    def write(self, event: Event) -> bytes:
        """The frames that an event makes; none for stages and run events."""
        if isinstance(event, generation_pb2.Delta):
            return self._write_delta(event)
        if isinstance(event, decision_pb2.Decision):
            self._decision = event
            return self._write_start(event.model or self._model)
        return self._write_end(event) if isinstance(event, generation_pb2.Completion) else b""

    def _write_start(self, model: str) -> bytes:
        message: dict[str, Any] = {
            "id": message_id(self._head.request_id),
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": write_usage(generation_pb2.Usage(input_tokens=self._input_tokens)),
        }
        return _frame("message_start", message=message) + PING

    def _write_delta(self, delta: generation_pb2.Delta) -> bytes:
        match delta.WhichOneof("kind"):
            case "text":
                opened = self._open("text", delta.part_index, message_pb2.Part(text=""))
                return opened + self._before_text + orjson.dumps(delta.text) + _AFTER_DELTA
            case "refusal":
                opened = self._open("text", delta.part_index, message_pb2.Part(text=""))
                return opened + self._before_text + orjson.dumps(delta.refusal) + _AFTER_DELTA
            case "tool_call":
                part = message_pb2.Part(tool_call=delta.tool_call)
                opened = self._open("tool_use", delta.part_index, part)
                text = delta.tool_call.arguments_json
                return opened + (self._delta("input_json_delta", partial_json=text) if text else b"")
            case "thinking":
                return self._write_thinking(delta)
            case "citation":
                self._citations.append(delta.citation)
        return b""

    def _write_thinking(self, delta: generation_pb2.Delta) -> bytes:
        thinking = delta.thinking
        part = message_pb2.Part(thinking=thinking)
        if thinking.redacted_data:
            return self._open("redacted_thinking", delta.part_index, part)
        written = self._open("thinking", delta.part_index, part)
        if thinking.text:
            written += self._delta("thinking_delta", thinking=thinking.text)
        if thinking.signature:
            written += self._delta("signature_delta", signature=thinking.signature)
        return written

    def _write_end(self, end: generation_pb2.Completion) -> bytes:
        written = b""
        citations = [citation for part in end.message.parts for citation in part.citations] or self._citations
        if citations:
            if self._block is None or self._block[1] != "text":
                written += self._open("text", self._index + 1, message_pb2.Part(text=""))
            for citation in citations:
                written += self._delta("citations_delta", citation=write_citation(citation))
        written += self._close()
        usage = write_usage(end.usage) | {"quartet": facts(self._decision, end, self._head)}
        return written + _frame("message_delta", delta=write_stop(end), usage=usage) + _STOP

    def _open(self, kind: str, part_index: int, part: message_pb2.Part) -> bytes:
        """Begins a block, after the one before, unless it is open."""
        if self._block == (part_index, kind):
            return b""
        written = self._close()
        self._block = (part_index, kind)
        self._index += 1
        self._before_text = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
            b'"delta":{"type":"text_delta","text":' % self._index
        )
        return written + _frame("content_block_start", index=self._index, content_block=open_block(part))

    def _close(self) -> bytes:
        if self._block is None:
            return b""
        self._block = None
        return _frame("content_block_stop", index=self._index)

    def _delta(self, kind: str, **members: Any) -> bytes:
        return _frame("content_block_delta", index=self._index, delta={"type": kind, **members})


def _frame(kind: str, **members: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind, **members}) + b"\n\n"
