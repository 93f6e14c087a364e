"""Answers in Anthropic's Messages format, whole or in pieces, in canonical form."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from quartet.common.v1 import generation_pb2 as pb
from quartet.common.v1.message_pb2 import ROLE_ASSISTANT, Citation, Extra, Message, Part, Thinking, ToolCall
from services.router.adapters.provider import MalformedAnswerError, read_tier
from services.router.adapters.remainder import known, pack, remainder
from services.router.domain.catalogue import Dialect

_FINISH = {
    "end_turn": pb.FINISH_REASON_STOP,
    "max_tokens": pb.FINISH_REASON_LENGTH,
    "model_context_window_exceeded": pb.FINISH_REASON_LENGTH,
    "stop_sequence": pb.FINISH_REASON_STOP_SEQUENCE,
    "tool_use": pb.FINISH_REASON_TOOL_CALLS,
    "pause_turn": pb.FINISH_REASON_PAUSE,
    "refusal": pb.FINISH_REASON_REFUSAL,
}
_OTHER_REASONS = ("model_context_window_exceeded",)
"""What a client of the dialect would not read again from the canonical reason."""
_MESSAGE = known("id type role model content stop_reason stop_sequence usage")
_USAGE = known(
    "input_tokens output_tokens cache_read_input_tokens cache_creation_input_tokens",
    output_tokens_details=known("thinking_tokens"),
)
_BLOCKS = {
    "text": known("type text citations"),
    "thinking": known("type thinking signature"),
    "redacted_thinking": known("type data"),
    "tool_use": known("type id name input"),
}
_LAST = known("type delta usage")
_DELTAS = ("text_delta", "input_json_delta", "thinking_delta", "signature_delta", "citations_delta")


def decode_completion(body: Any) -> pb.Completion:
    """A whole answer; raises MalformedAnswerError."""
    try:
        parts = [_part(block) for block in body["content"]]
        completion = pb.Completion(
            message=Message(role=ROLE_ASSISTANT, parts=parts or [Part(text="")]),
            usage=_usage(body["usage"]),
            provider_response_id=body.get("id") or "",
            extra=pack(_more(remainder(body, _MESSAGE), body), Dialect.ANTHROPIC),
        )
        _end(completion, body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedAnswerError(f"no message: {error!r}") from None
    return completion


def _more(message: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a message, how it ended and its usage say beyond the canonical form."""
    reason = fields.get("stop_reason")
    if reason in _OTHER_REASONS or (reason and reason not in _FINISH):
        message["stop_reason"] = reason
    if of_usage := remainder(fields["usage"], _USAGE):
        message["usage"] = of_usage
    return message


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
        service_tier=read_tier(usage.get("service_tier")),
    )


def _part(block: Mapping[str, Any]) -> Part:
    kind = block["type"]
    if kind not in _BLOCKS:
        return Part(opaque=pack(block, Dialect.ANTHROPIC))
    part = Part(extra=pack(remainder(block, _BLOCKS[kind]), Dialect.ANTHROPIC))
    match kind:
        case "text":
            part.text = block["text"]
            part.citations.extend(map(_citation, block.get("citations") or ()))
        case "thinking":
            part.thinking.MergeFrom(Thinking(text=block["thinking"], signature=block["signature"]))
        case "redacted_thinking":
            part.thinking.redacted_data = block["data"]
        case "tool_use":
            arguments = orjson.dumps(block["input"]).decode()
            part.tool_call.MergeFrom(ToolCall(id=block["id"], name=block["name"], arguments_json=arguments))
    return part


def _citation(citation: Mapping[str, Any]) -> Citation:
    return Citation(
        title=citation.get("document_title") or citation.get("title") or "",
        quote=citation.get("cited_text") or "",
        start_char=citation.get("start_char_index") or 0,
        end_char=citation.get("end_char_index") or 0,
        source=citation.get("url") or citation.get("source") or "",
        extra=pack(citation, Dialect.ANTHROPIC),
    )


class StreamDecoder:
    """Puts the events of one answer together; `is_finished` tells a whole answer from one that broke off."""

    def __init__(self) -> None:
        self.is_finished = False
        self._id = ""
        self._usage: dict[str, Any] = {}
        self._end: dict[str, Any] = {}
        self._message: dict[str, Any] = {}
        """What the message says beyond the canonical form."""
        self._indexes: dict[int, int] = {}
        self._opaque: set[int] = set()
        self._unsaid: dict[int, dict[str, Any]] = {}
        """What a block says beyond the canonical form, until its first delta."""

    def feed(self, event: Mapping[str, Any]) -> Iterator[pb.Delta]:
        """The deltas of an event; raises MalformedAnswerError."""
        try:
            match event["type"]:
                case "content_block_delta":
                    yield from self._continue(event["index"], event["delta"])
                case "content_block_start":
                    yield from self._begin(event["index"], event["content_block"])
                case "content_block_stop":
                    yield from self._close(event["index"])
                case "message_start":
                    self._id = event["message"]["id"]
                    self._message = remainder(event["message"], _MESSAGE)
                    self._usage.update(event["message"]["usage"])
                case "message_delta":
                    self._end = dict(event["delta"])
                    self._message |= remainder(self._end, _MESSAGE) | remainder(event, _LAST)
                    counts = event.get("usage") or {}
                    self._usage.update((name, count) for name, count in counts.items() if count is not None)
                case "message_stop":
                    self.is_finished = True
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MalformedAnswerError(f"no event of a message: {error!r}") from None

    @property
    def is_last(self) -> bool:
        """Nothing follows the event that ends the message."""
        return self.is_finished

    def completion(self) -> pb.Completion:
        """The end of the answer, without its message; raises MalformedAnswerError."""
        try:
            more = _more(self._message, {**self._end, "usage": self._usage})
            completion = pb.Completion(
                usage=_usage(self._usage),
                provider_response_id=self._id,
                extra=pack(more, Dialect.ANTHROPIC),
            )
            _end(completion, self._end)
        except (TypeError, ValueError, AttributeError) as error:
            raise MalformedAnswerError(f"no end of a message: {error!r}") from None
        return completion

    def _begin(self, index: int, block: Mapping[str, Any]) -> Iterator[pb.Delta]:
        kind = block["type"]
        place = self._indexes[index] = len(self._indexes)
        if kind not in _BLOCKS:
            self._opaque.add(index)
            yield pb.Delta(opaque=pack(block, Dialect.ANTHROPIC), part_index=place)
            return
        if more := remainder(block, _BLOCKS[kind]):
            self._unsaid[index] = more
        if kind == "tool_use":
            yield self._say(index, pb.Delta(tool_call=ToolCall(id=block["id"], name=block["name"])))
        elif kind == "redacted_thinking":
            yield self._say(index, pb.Delta(thinking=Thinking(redacted_data=block["data"])))
        elif block.get(kind):
            yield from self._continue(index, {"type": f"{kind}_delta", kind: block[kind]})

    def _continue(self, index: int, delta: Mapping[str, Any]) -> Iterator[pb.Delta]:
        if index not in self._indexes:
            return
        kind = delta["type"]
        if index in self._opaque or kind not in _DELTAS:
            yield self._say(index, pb.Delta(opaque=pack(delta, Dialect.ANTHROPIC)))
            return
        match kind:
            case "text_delta" if delta["text"]:
                yield self._say(index, pb.Delta(text=delta["text"]))
            case "input_json_delta" if delta["partial_json"]:
                yield self._say(index, pb.Delta(tool_call=ToolCall(arguments_json=delta["partial_json"])))
            case "thinking_delta" if delta["thinking"]:
                yield self._say(index, pb.Delta(thinking=Thinking(text=delta["thinking"])))
            case "signature_delta":
                yield self._say(index, pb.Delta(thinking=Thinking(signature=delta["signature"])))
            case "citations_delta":
                yield self._say(index, pb.Delta(citation=_citation(delta["citation"])))

    def _close(self, index: int) -> Iterator[pb.Delta]:
        """A text block without words still says what it says beside them."""
        if index in self._unsaid:
            yield self._say(index, pb.Delta(text=""))

    def _say(self, index: int, delta: pb.Delta) -> pb.Delta:
        delta.part_index = self._indexes[index]
        if self._unsaid and (more := self._unsaid.pop(index, None)):
            delta.extra.MergeFrom(pack(more, Dialect.ANTHROPIC) or Extra())
        return delta
