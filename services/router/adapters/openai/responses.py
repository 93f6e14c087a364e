"""Answers in OpenAI's Chat Completions format, whole or in pieces, in canonical form."""

from collections.abc import Iterator, Mapping
from typing import Any

from quartet.common.v1 import generation_pb2 as pb
from quartet.common.v1.message_pb2 import ROLE_ASSISTANT, Message, Part, Thinking, ToolCall
from services.router.adapters.provider import MalformedAnswerError

_FINISH = {
    "stop": pb.FINISH_REASON_STOP,
    "length": pb.FINISH_REASON_LENGTH,
    "tool_calls": pb.FINISH_REASON_TOOL_CALLS,
    "function_call": pb.FINISH_REASON_TOOL_CALLS,
    "content_filter": pb.FINISH_REASON_CONTENT_FILTER,
}
_TEXT, _REASONING, _REFUSAL = "text", "reasoning", "refusal"


def decode_completion(body: Any) -> pb.Completion:
    """The first choice of an answer; raises MalformedAnswerError."""
    try:
        choice = body["choices"][0]
        said = choice["message"]
        message = Message(role=ROLE_ASSISTANT, parts=_parts(said))
        return pb.Completion(
            message=message,
            finish_reason=_finish(choice.get("finish_reason"), refused=bool(said.get("refusal"))),
            usage=decode_usage(body.get("usage")),
            provider_response_id=body.get("id") or "",
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise MalformedAnswerError(f"no completion: {error!r}") from None


def decode_usage(usage: Mapping[str, Any] | None) -> pb.Usage:
    """Counts of tokens; those that a server does not give are 0."""
    if not usage:
        return pb.Usage()
    read = usage.get("prompt_tokens_details") or {}
    written = usage.get("completion_tokens_details") or {}
    return pb.Usage(
        input_tokens=usage.get("prompt_tokens") or 0,
        output_tokens=usage.get("completion_tokens") or 0,
        cached_input_tokens=read.get("cached_tokens") or 0,
        cache_write_tokens=read.get("cache_write_tokens") or 0,
        reasoning_tokens=written.get("reasoning_tokens") or 0,
    )


def _parts(said: Mapping[str, Any]) -> list[Part]:
    parts: list[Part] = []
    if said.get("reasoning_content"):
        parts.append(Part(thinking=Thinking(text=said["reasoning_content"])))
    if said.get("content"):
        parts.append(Part(text=said["content"]))
    if said.get("refusal"):
        parts.append(Part(refusal=said["refusal"]))
    parts.extend(Part(tool_call=_call(call)) for call in said.get("tool_calls") or ())
    return parts or [Part(text="")]


def _call(call: Mapping[str, Any]) -> ToolCall:
    if call.get("type") == "custom":
        custom = call["custom"]
        return ToolCall(id=call["id"], name=custom["name"], input_text=custom.get("input") or "")
    function = call["function"]
    return ToolCall(id=call["id"], name=function["name"], arguments_json=function.get("arguments") or "")


def _finish(reason: str | None, *, refused: bool) -> pb.FinishReason.ValueType:
    if refused and reason == "stop":
        return pb.FINISH_REASON_REFUSAL
    return _FINISH.get(reason or "", pb.FINISH_REASON_UNSPECIFIED)


class StreamDecoder:
    """Puts the chunks of one answer together; `is_finished` tells a whole answer from one that broke off."""

    is_last = False
    """The stream's end is no event of the answer's."""

    def __init__(self) -> None:
        self.is_finished = False
        self._id = ""
        self._finish_reason: str | None = None
        self._usage: Mapping[str, Any] | None = None
        self._indexes: dict[str | int, int] = {}

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[pb.Delta]:
        """The deltas of a chunk; raises MalformedAnswerError."""
        try:
            self._id = self._id or chunk.get("id") or ""
            self._usage = chunk.get("usage") or self._usage
            for choice in chunk.get("choices") or ():
                if choice.get("index", 0) != 0:
                    continue
                yield from self._deltas(choice.get("delta") or {})
                if choice.get("finish_reason"):
                    self._finish_reason = choice["finish_reason"]
                    self.is_finished = True
        except (KeyError, TypeError, AttributeError) as error:
            raise MalformedAnswerError(f"no chunk of a completion: {error!r}") from None

    def completion(self) -> pb.Completion:
        """The end of the answer, without its message."""
        return pb.Completion(
            finish_reason=_finish(self._finish_reason, refused=_REFUSAL in self._indexes),
            usage=decode_usage(self._usage),
            provider_response_id=self._id,
        )

    def _deltas(self, delta: Mapping[str, Any]) -> Iterator[pb.Delta]:
        if text := delta.get("content"):
            yield pb.Delta(text=text, part_index=self._index_of(_TEXT))
        if reasoning := delta.get("reasoning_content"):
            yield pb.Delta(thinking=Thinking(text=reasoning), part_index=self._index_of(_REASONING))
        if refusal := delta.get("refusal"):
            yield pb.Delta(refusal=refusal, part_index=self._index_of(_REFUSAL))
        for call in delta.get("tool_calls") or ():
            called = call.get("function") or call.get("custom") or {}
            piece = ToolCall(id=call.get("id") or "", name=called.get("name") or "")
            if "custom" in call:
                piece.input_text = called.get("input") or ""
            else:
                piece.arguments_json = called.get("arguments") or ""
            yield pb.Delta(tool_call=piece, part_index=self._index_of(call["index"]))

    def _index_of(self, part: str | int) -> int:
        """Parts are numbered as they appear."""
        return self._indexes.setdefault(part, len(self._indexes))
