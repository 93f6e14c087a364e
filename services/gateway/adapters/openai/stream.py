"""An answer as OpenAI's `chat.completion.chunk` events."""

from typing import Any

import orjson

from quartet.common.v1 import decision_pb2, generation_pb2, message_pb2
from services.gateway.adapters.openai.response import (
    FINISH_REASONS,
    citations_of,
    completion_id,
    read_chunk,
    write_annotations,
    write_call,
    write_thinking,
    write_usage,
)
from services.gateway.domain.dispatch import Event
from services.gateway.domain.headers import Head, facts
from services.kit.members import lay_over

DONE = b"data: [DONE]\n\n"


class ChunkWriter:
    """Writes the frames of one stream; what is the same in all of them is encoded once.

    Usage comes in a chunk of its own when the client asked for it, else in the one with the finish reason, so
    that every stream tells what it cost.
    """

    def __init__(self, *, head: Head, model: str, include_usage: bool) -> None:
        self._head = head
        self._model = model
        self._include_usage = include_usage
        self._decision = decision_pb2.Decision()
        self._more: dict[str, Any] = {}
        """What the provider says beside its choices, which each chunk repeats."""
        self._begin()
        self._citations: list[message_pb2.Citation] = []
        self._thoughts: dict[int, message_pb2.Thinking] = {}
        """Reasoning so far, by part: it is handed back whole, with its signature."""
        self._calls: dict[int, int] = {}
        """Which of the answer's tool calls a part is, counted from 0."""

    def write(self, event: Event) -> bytes:
        """The frames that an event makes; none for stages and run events."""
        if isinstance(event, generation_pb2.Delta):
            return self._write_delta(event)
        if isinstance(event, decision_pb2.Decision):
            self._decision = event
            self._model = event.model or self._model
            self._begin()
            return self._frame(b'{"role":"assistant","content":"","refusal":null}')
        return self._write_end(event) if isinstance(event, generation_pb2.Completion) else b""

    def _begin(self) -> None:
        head = orjson.dumps(
            {
                "id": completion_id(self._head.request_id),
                "object": "chat.completion.chunk",
                "created": self._head.created_s,
                "model": self._model,
                **self._more,
            }
        )
        self._opening = b"data: " + head[:-1]
        usage = b',"usage":null' if self._include_usage else b""
        self._before_delta = self._opening + usage + b',"choices":[{"index":0,"delta":'
        self._before_text = self._before_delta + b'{"content":'

    def _write_delta(self, delta: generation_pb2.Delta) -> bytes:
        if delta.HasField("extra"):
            return self._write_with(delta, delta.extra)
        match delta.WhichOneof("kind"):
            case "text":
                return self._before_text + orjson.dumps(delta.text) + _AFTER_TEXT
            case "opaque":
                return self._write_with(delta, delta.opaque)
        members = self._members(delta)
        return self._frame(orjson.dumps(members)) if members else b""

    def _write_with(self, delta: generation_pb2.Delta, extra: message_pb2.Extra) -> bytes:
        """A chunk with further members of the provider's."""
        more, of_choice = read_chunk(extra)
        if more:
            self._more.update(more)
            self._begin()
        members = self._members(delta)
        if not of_choice:
            return self._frame(orjson.dumps(members)) if members else b""
        of_calls = of_choice.get("delta", {}).pop("tool_calls", ())
        for call, of_call in zip(members.get("tool_calls", ()), of_calls, strict=False):
            lay_over(call, of_call)
        choice: dict[str, Any] = {"index": 0, "delta": members, "logprobs": None, "finish_reason": None}
        lay_over(choice, of_choice)
        return self._chunk(choice)

    def _members(self, delta: generation_pb2.Delta) -> dict[str, Any]:
        """What a chunk's `delta` says."""
        match delta.WhichOneof("kind"):
            case "text":
                return {"content": delta.text}
            case "tool_call":
                return {"tool_calls": [self._write_call(delta)]}
            case "thinking":
                return self._write_thinking(delta)
            case "refusal":
                return {"refusal": delta.refusal}
            case "citation":
                self._citations.append(delta.citation)
        return {}

    def _write_call(self, delta: generation_pb2.Delta) -> dict[str, Any]:
        call = delta.tool_call
        if delta.part_index in self._calls:
            index = self._calls[delta.part_index]
            if call.HasField("input_text"):
                return {"index": index, "custom": {"input": call.input_text}}
            return {"index": index, "function": {"arguments": call.arguments_json}}
        index = self._calls[delta.part_index] = len(self._calls)
        return {"index": index, **write_call(call)}

    def _write_thinking(self, delta: generation_pb2.Delta) -> dict[str, Any]:
        thinking = delta.thinking
        so_far = self._thoughts.setdefault(delta.part_index, message_pb2.Thinking())
        so_far.text += thinking.text
        so_far.signature += thinking.signature
        so_far.redacted_data += thinking.redacted_data
        members: dict[str, Any] = {"reasoning_content": thinking.text} if thinking.text else {}
        if (thinking.signature or thinking.redacted_data) and (block := write_thinking(so_far)):
            members["thinking_blocks"] = [block]
        return members

    def _write_end(self, end: generation_pb2.Completion) -> bytes:
        written = b""
        if citations := citations_of(end.message) or self._citations:
            written = self._frame(orjson.dumps({"annotations": write_annotations(citations)}))
        usage = write_usage(end.usage) | {"quartet": facts(self._decision, end, self._head)}
        more, of_choice = read_chunk(end.extra)
        lay_over(usage, more.pop("usage", {}))
        if more:
            self._more.update(more)
            self._begin()
        reason = FINISH_REASONS.get(end.finish_reason, "stop")
        # Of an answer that came whole and is streamed: what its message has more.
        last = {"delta": of_choice.pop("message", {}), "logprobs": None, "finish_reason": reason}
        choice: dict[str, Any] = {"index": 0, **last}
        lay_over(choice, of_choice)
        if self._include_usage:
            told = b',"choices":[],"usage":' + orjson.dumps(usage) + b"}\n\n"
            return written + self._chunk(choice) + self._opening + told + DONE
        told = b',"choices":[' + orjson.dumps(choice) + b'],"usage":' + orjson.dumps(usage) + b"}\n\n"
        return written + self._opening + told + DONE

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        usage = b',"usage":null' if self._include_usage else b""
        return self._opening + usage + b',"choices":[' + orjson.dumps(choice) + b"]}\n\n"

    def _frame(self, delta: bytes) -> bytes:
        return self._before_delta + delta + _AFTER_DELTA


_AFTER_DELTA = b',"logprobs":null,"finish_reason":null}]}\n\n'
_AFTER_TEXT = b"}" + _AFTER_DELTA
