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
from services.gateway.adapters.extras import ANTHROPIC, read_extra
from services.gateway.domain.dispatch import Event
from services.gateway.domain.ending import interleaved
from services.gateway.domain.headers import Head, facts
from services.kit.members import lay_over

PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_AFTER_DELTA = b"}}\n\n"
_ENDINGS = ("container", "stop_reason", "stop_sequence", "stop_details")
"""What the last event but one says of the message; all else of the provider's stands beside."""


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
        self._before_stop = ""
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
                opened = self._open("text", delta, message_pb2.Part(text=""))
                return opened + self._before_text + orjson.dumps(delta.text) + _AFTER_DELTA
            case "refusal":
                opened = self._open("text", delta, message_pb2.Part(text=""))
                return opened + self._before_text + orjson.dumps(delta.refusal) + _AFTER_DELTA
            case "tool_call":
                return self._write_call(delta)
            case "thinking":
                return self._write_thinking(delta)
            case "citation":
                return self._write_citation(delta)
            case "opaque":
                return self._write_opaque(delta)
        return b""

    def _write_call(self, delta: generation_pb2.Delta) -> bytes:
        call = delta.tool_call
        if not call.name and self._block != (delta.part_index, "tool_use"):
            raise interleaved()
        opened = self._open("tool_use", delta, message_pb2.Part(tool_call=call))
        if not call.HasField("input_text"):
            text = call.arguments_json
            return opened + (self._delta("input_json_delta", partial_json=text) if text else b"")
        # Free text becomes an object's only member, whose end comes with the block's.
        text = orjson.dumps(call.input_text).decode()[1:-1]
        before, self._before_stop = ("" if self._before_stop else '{"input":"'), '"}'
        return opened + self._delta("input_json_delta", partial_json=before + text)

    def _write_citation(self, delta: generation_pb2.Delta) -> bytes:
        """A provider's own at once; ours when the text is whole, as those of a whole answer come."""
        if delta.citation.extra.dialect != ANTHROPIC:
            self._citations.append(delta.citation)
            return b""
        opened = self._open("text", delta, message_pb2.Part(text=""))
        return opened + self._delta("citations_delta", citation=write_citation(delta.citation))

    def _write_opaque(self, delta: generation_pb2.Delta) -> bytes:
        """A block of the same dialect as it starts; after that, its deltas."""
        own = read_extra(delta.opaque, ANTHROPIC)
        if not own:
            return b""
        if self._block is not None and self._block[0] == delta.part_index:
            return _frame("content_block_delta", index=self._index, delta=own)
        return self._begin(delta.part_index, "opaque", own)

    def _write_thinking(self, delta: generation_pb2.Delta) -> bytes:
        thinking = delta.thinking
        part = message_pb2.Part(thinking=thinking)
        if thinking.redacted_data:
            return self._open("redacted_thinking", delta, part)
        written = self._open("thinking", delta, part)
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
                written += self._begin(self._index + 1, "text", open_block(message_pb2.Part(text="")))
            for citation in citations:
                written += self._delta("citations_delta", citation=write_citation(citation))
        written += self._close()
        usage = write_usage(end.usage) | {"quartet": facts(self._decision, end, self._head)}
        event: dict[str, Any] = {"delta": write_stop(end), "usage": usage}
        more = read_extra(end.extra, ANTHROPIC)
        event["delta"].update({name: more.pop(name) for name in _ENDINGS if name in more})
        lay_over(event, more)
        return written + _frame("message_delta", **event) + _STOP

    def _open(self, kind: str, delta: generation_pb2.Delta, part: message_pb2.Part) -> bytes:
        """Begins a block, after the one before, unless it is open."""
        if self._block == (delta.part_index, kind):
            return b""
        block = open_block(part)
        lay_over(block, read_extra(delta.extra, ANTHROPIC))
        return self._begin(delta.part_index, kind, block)

    def _begin(self, part_index: int, kind: str, block: dict[str, Any]) -> bytes:
        written = self._close()
        self._block = (part_index, kind)
        self._index += 1
        self._before_text = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
            b'"delta":{"type":"text_delta","text":' % self._index
        )
        return written + _frame("content_block_start", index=self._index, content_block=block)

    def _close(self) -> bytes:
        if self._block is None:
            return b""
        self._block = None
        written = (
            self._delta("input_json_delta", partial_json=self._before_stop) if self._before_stop else b""
        )
        self._before_stop = ""
        return written + _frame("content_block_stop", index=self._index)

    def _delta(self, kind: str, **members: Any) -> bytes:
        return _frame("content_block_delta", index=self._index, delta={"type": kind, **members})


def _frame(kind: str, **members: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps({"type": kind, **members}) + b"\n\n"
