"""An answer as OpenAI's `chat.completion.chunk` events."""

from typing import Any

import orjson

from quartet.common.v1 import decision_pb2, generation_pb2, message_pb2
from services.gateway.adapters.openai.response import (
    FINISH_REASONS,
    citations_of,
    completion_id,
    write_annotations,
    write_usage,
)
from services.gateway.domain.dispatch import Event
from services.gateway.domain.headers import Head, facts

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
        self._begin(model)
        self._citations: list[message_pb2.Citation] = []
        self._calls: dict[int, int] = {}
        """Which of the answer's tool calls a part is, counted from 0."""

    def write(self, event: Event) -> bytes:
        """The frames that an event makes; none for stages and run events."""
        if isinstance(event, generation_pb2.Delta):
            return self._write_delta(event)
        if isinstance(event, decision_pb2.Decision):
            self._decision = event
            self._begin(event.model or self._model)
            return self._frame(b'{"role":"assistant","content":"","refusal":null}')
        return self._write_end(event) if isinstance(event, generation_pb2.Completion) else b""

    def _begin(self, model: str) -> None:
        head = orjson.dumps(
            {
                "id": completion_id(self._head.request_id),
                "object": "chat.completion.chunk",
                "created": self._head.created_s,
                "model": model,
            }
        )
        self._opening = b"data: " + head[:-1]
        usage = b',"usage":null' if self._include_usage else b""
        self._before_delta = self._opening + usage + b',"choices":[{"index":0,"delta":'
        self._before_text = self._before_delta + b'{"content":'

    def _write_delta(self, delta: generation_pb2.Delta) -> bytes:
        match delta.WhichOneof("kind"):
            case "text":
                return self._before_text + orjson.dumps(delta.text) + _AFTER_TEXT
            case "tool_call":
                return self._frame(orjson.dumps({"tool_calls": [self._write_call(delta)]}))
            case "thinking":
                text = delta.thinking.text
                return self._frame(orjson.dumps({"reasoning_content": text})) if text else b""
            case "refusal":
                return self._frame(orjson.dumps({"refusal": delta.refusal}))
            case "citation":
                self._citations.append(delta.citation)
        return b""

    def _write_call(self, delta: generation_pb2.Delta) -> dict[str, Any]:
        call = delta.tool_call
        if delta.part_index in self._calls:
            return {"index": self._calls[delta.part_index], "function": {"arguments": call.arguments_json}}
        index = self._calls[delta.part_index] = len(self._calls)
        function = {"name": call.name, "arguments": call.arguments_json}
        return {"index": index, "id": call.id, "type": "function", "function": function}

    def _write_end(self, end: generation_pb2.Completion) -> bytes:
        written = b""
        if citations := citations_of(end.message) or self._citations:
            written = self._frame(orjson.dumps({"annotations": write_annotations(citations)}))
        usage = orjson.dumps(write_usage(end.usage) | {"quartet": facts(self._decision, end, self._head)})
        reason = FINISH_REASONS.get(end.finish_reason, "stop").encode()
        choice = b',"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"' + reason + b'"}]'
        if self._include_usage:
            written += self._opening + b',"usage":null' + choice + b"}\n\n"
            return written + self._opening + b',"choices":[],"usage":' + usage + b"}\n\n" + DONE
        return written + self._opening + choice + b',"usage":' + usage + b"}\n\n" + DONE

    def _frame(self, delta: bytes) -> bytes:
        return self._before_delta + delta + _AFTER_DELTA


_AFTER_DELTA = b',"logprobs":null,"finish_reason":null}]}\n\n'
_AFTER_TEXT = b"}" + _AFTER_DELTA
