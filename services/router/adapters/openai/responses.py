"""Answers in OpenAI's Chat Completions format, whole or in pieces, in canonical form."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from quartet.common.v1 import generation_pb2 as pb
from quartet.common.v1.message_pb2 import ROLE_ASSISTANT, Citation, Message, Part, Thinking, ToolCall
from services.router.adapters.provider import MalformedAnswerError, read_tier
from services.router.adapters.remainder import known, pack, remainder
from services.router.domain.catalogue import Dialect

_FINISH = {
    "stop": pb.FINISH_REASON_STOP,
    "length": pb.FINISH_REASON_LENGTH,
    "tool_calls": pb.FINISH_REASON_TOOL_CALLS,
    "function_call": pb.FINISH_REASON_TOOL_CALLS,
    "content_filter": pb.FINISH_REASON_CONTENT_FILTER,
}
_SAME_REASON = ("stop", "length", "tool_calls", "content_filter")
"""What a client of the dialect reads again, whatever model answers."""
_TEXT, _REASONING, _REFUSAL, _OPAQUE = "text", "reasoning", "refusal", "opaque"

_MESSAGE = known("role content refusal tool_calls reasoning_content annotations")
_CHOICE = known("index finish_reason", message=_MESSAGE)
_CHUNK_CHOICE = known("index finish_reason", delta=_MESSAGE)
_PLAIN_CHOICE = frozenset(("index", "delta", "logprobs", "finish_reason"))
_ANSWER = known("id object created model choices usage obfuscation")
"""The obfuscation pads chunks to hide their length, which holds for the provider's own only."""
_CALL = known("id index type", function=known("name arguments"), custom=known("name input"))
_USAGE = known(
    "prompt_tokens completion_tokens total_tokens",
    prompt_tokens_details=known("cached_tokens cache_write_tokens"),
    completion_tokens_details=known("reasoning_tokens"),
)


def decode_completion(body: Any) -> pb.Completion:
    """The first choice of an answer; raises MalformedAnswerError."""
    try:
        choice = body["choices"][0]
        said = choice["message"]
        message = Message(role=ROLE_ASSISTANT, parts=_parts(said))
        return pb.Completion(
            message=message,
            finish_reason=_finish(choice.get("finish_reason"), refused=bool(said.get("refusal"))),
            usage=decode_usage(body.get("usage"), body.get("service_tier")),
            provider_response_id=body.get("id") or "",
            extra=pack(_more(remainder(body, _ANSWER), choice, body.get("usage")), Dialect.OPENAI),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise MalformedAnswerError(f"no completion: {error!r}") from None


def _more(
    answer: dict[str, Any], choice: Mapping[str, Any], usage: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What the answer, its choice and its usage say beyond the canonical form."""
    of_choice = remainder(choice, _CHUNK_CHOICE if "delta" in choice else _CHOICE)
    if (reason := choice.get("finish_reason")) and reason not in _SAME_REASON:
        of_choice["finish_reason"] = reason
    if of_choice:
        answer["choices"] = [of_choice]
    if of_usage := remainder(usage or {}, _USAGE):
        answer["usage"] = of_usage
    return answer


def decode_usage(usage: Mapping[str, Any] | None, service_tier: Any = None) -> pb.Usage:
    """Counts of tokens, those that a server does not give 0, and the tier, which stands beside them."""
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
        service_tier=read_tier(service_tier),
    )


def _parts(said: Mapping[str, Any]) -> list[Part]:
    parts: list[Part] = []
    if said.get("reasoning_content"):
        parts.append(Part(thinking=Thinking(text=said["reasoning_content"])))
    if said.get("content"):
        parts.append(Part(text=said["content"], citations=map(_citation, said.get("annotations") or ())))
    if said.get("refusal"):
        parts.append(Part(refusal=said["refusal"]))
    parts += [
        Part(tool_call=_call(call), extra=pack(remainder(call, _CALL), Dialect.OPENAI))
        for call in said.get("tool_calls") or ()
    ]
    return parts or [Part(text="")]


def _call(call: Mapping[str, Any]) -> ToolCall:
    if call.get("type") == "custom":
        custom = call["custom"]
        return ToolCall(id=call["id"], name=custom["name"], input_text=custom.get("input") or "")
    function = call["function"]
    return ToolCall(id=call["id"], name=function["name"], arguments_json=function.get("arguments") or "")


def _citation(annotation: Mapping[str, Any]) -> Citation:
    cited = annotation.get("url_citation") or annotation
    return Citation(
        title=cited.get("title") or "",
        source=cited.get("url") or "",
        answer_start_char=cited.get("start_index") or 0,
        answer_end_char=cited.get("end_index") or 0,
        extra=pack(annotation, Dialect.OPENAI),
    )


def _finish(reason: str | None, *, refused: bool) -> pb.FinishReason.ValueType:
    if refused and reason == "stop":
        return pb.FINISH_REASON_REFUSAL
    return _FINISH.get(reason or "", pb.FINISH_REASON_UNSPECIFIED)


def _plain_text(choice: Mapping[str, Any]) -> str:
    """The text of a choice that says nothing else, as nearly all of them; empty for any other."""
    delta = choice.get("delta")
    if (
        not delta
        or len(delta) > 1
        or choice.get("finish_reason") is not None
        or choice.get("logprobs") is not None
        or not choice.keys() <= _PLAIN_CHOICE
    ):
        return ""
    return delta.get("content") or ""


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
        self._said: dict[str, Any] = {}
        """What stands beside the choices, which most servers repeat in every chunk."""
        self._unsaid: dict[str, Any] = {}
        self._last: Mapping[str, Any] = {}
        """The choice of the chunk that said why the answer ended."""

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[pb.Delta]:
        """The deltas of a chunk; raises MalformedAnswerError."""
        try:
            self._id = self._id or chunk.get("id") or ""
            self._usage = chunk.get("usage") or self._usage
            for name in chunk.keys() - _ANSWER.keys():
                if (value := chunk[name]) is not None and value != self._said.get(name):
                    self._said[name] = self._unsaid[name] = value
            for choice in chunk.get("choices") or ():
                if choice.get("index", 0) != 0:
                    continue
                if not self._unsaid and (text := _plain_text(choice)):
                    yield pb.Delta(text=text, part_index=self._index_of(_TEXT))
                else:
                    yield from self._choose(choice)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MalformedAnswerError(f"no chunk of a completion: {error!r}") from None

    def completion(self) -> pb.Completion:
        """The end of the answer, without its message; raises MalformedAnswerError."""
        try:
            return pb.Completion(
                finish_reason=_finish(self._finish_reason, refused=_REFUSAL in self._indexes),
                usage=decode_usage(self._usage, self._said.get("service_tier")),
                provider_response_id=self._id,
                extra=pack(_more(dict(self._said), self._last, self._usage), Dialect.OPENAI),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise MalformedAnswerError(f"no end of a completion: {error!r}") from None

    def _choose(self, choice: Mapping[str, Any]) -> Iterator[pb.Delta]:
        """The deltas of a choice; the first of them says what the provider says beside."""
        pieces = list(self._pieces(choice.get("delta") or {}))
        more = remainder(choice, _CHUNK_CHOICE)
        if reason := choice.get("finish_reason"):
            self._finish_reason = reason
            self.is_finished = True
            self._last = {"finish_reason": reason} if pieces else choice
        elif more and not pieces:
            pieces = [(pb.Delta(part_index=self._index_of(_OPAQUE)), {})]
        for delta, of_delta in pieces:
            if of_delta:
                more["delta"] = {**more.get("delta", {}), **of_delta}
            if told := self._unsaid | ({"choices": [more]} if more else {}):
                bearer = delta.extra if delta.WhichOneof("kind") else delta.opaque
                bearer.dialect, bearer.json = Dialect.OPENAI.value, orjson.dumps(told).decode()
                self._unsaid, more = {}, {}
            yield delta

    def _pieces(self, delta: Mapping[str, Any]) -> Iterator[tuple[pb.Delta, dict[str, Any]]]:
        """Deltas, each with what `delta` says of it beyond the canonical form."""
        if text := delta.get("content"):
            yield pb.Delta(text=text, part_index=self._index_of(_TEXT)), {}
        if reasoning := delta.get("reasoning_content"):
            yield pb.Delta(thinking=Thinking(text=reasoning), part_index=self._index_of(_REASONING)), {}
        if refusal := delta.get("refusal"):
            yield pb.Delta(refusal=refusal, part_index=self._index_of(_REFUSAL)), {}
        for call in delta.get("tool_calls") or ():
            called = call.get("function") or call.get("custom") or {}
            piece = ToolCall(id=call.get("id") or "", name=called.get("name") or "")
            if "custom" in call:
                piece.input_text = called.get("input") or ""
            else:
                piece.arguments_json = called.get("arguments") or ""
            rest = remainder(call, _CALL)
            yield (
                pb.Delta(tool_call=piece, part_index=self._index_of(call["index"])),
                {"tool_calls": [rest]} if rest else {},
            )
        for annotation in delta.get("annotations") or ():
            yield pb.Delta(citation=_citation(annotation), part_index=self._index_of(_TEXT)), {}

    def _index_of(self, part: str | int) -> int:
        """Parts are numbered as they appear."""
        return self._indexes.setdefault(part, len(self._indexes))
