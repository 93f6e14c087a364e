"""What the double is told to answer, and how it is told to fail."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter

from tests.doubles.provider.ledger import RecordedRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts; the input includes what was cached or written to the cache, the output the reasoning."""

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call the model makes; text as `arguments` is sent as it is, even where it is no JSON."""

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}

    name: str
    arguments: Mapping[str, Any] | str = field(default_factory=dict)
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What to answer; what is left out is derived from the request.

    Attributes:
        text: The answer. None: the default one, or none where tools are called.
        tool_calls: Calls to make, after the text.
        call_tool: Call the request's tool with arguments made from its schema.
        thinking: Sent as a signed thinking block (Anthropic), counted as reasoning tokens (OpenAI).
        chunks: Pieces of text in a stream. None: the double's own setting.
        usage: Counted from the text where left out.
        finish_reason: The vendor's word, in place of the one that fits the answer.
        service_tier: At which it is said to be served. None: the vendor's word for the usual one.
    """

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}

    text: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    call_tool: bool = False
    thinking: str = ""
    chunks: int | None = None
    usage: Usage | None = None
    finish_reason: str | None = None
    service_tier: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """How an answer goes wrong; `…_after_chunks` counts its pieces, a number too high is its end.

    Attributes:
        delay_s: Silence before the first byte.
        chunk_delay_s: Silence before each piece of a stream.
        status: Answer this HTTP status with the vendor's error body.
        retry_after_s: Sent as `retry-after`.
        headers: Sent besides.
        message: The error's text, in place of the usual one.
        drop: Close the socket without a byte.
        hang_after_chunks: Send no more and keep the socket open; 0 is before the first token.
        cut_after_chunks: Abort the socket; a unary answer is cut in mid-body, or before it with 0.
        malformed_after_chunks: Send an event that is no JSON, then go on; a unary body loses its second half.
        error_after_chunks: End the stream with the vendor's error event (streams only).
        content_type: In place of the right one.
        oversize_bytes: Swell the answer by so many bytes: a field of a unary body, a comment in a stream.
        drip_bytes: Send the body in slices of so many bytes, `drip_interval_s` apart.
    """

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}

    delay_s: float = 0.0
    chunk_delay_s: float = 0.0
    status: int | None = None
    retry_after_s: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str | None = None
    drop: bool = False
    hang_after_chunks: int | None = None
    cut_after_chunks: int | None = None
    malformed_after_chunks: int | None = None
    error_after_chunks: int | None = None
    content_type: str | None = None
    oversize_bytes: int | None = None
    drip_bytes: int | None = None
    drip_interval_s: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Which requests a rule is for; every condition given must hold."""

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}

    model: str | None = None
    endpoint: str | None = None
    stream: bool | None = None
    contains: str | None = None
    where: Callable[[RecordedRequest], bool] | None = None

    def __call__(self, request: RecordedRequest) -> bool:
        return (
            (self.model is None or self.model == request.model)
            and (self.endpoint is None or self.endpoint == request.endpoint)
            and (self.stream is None or self.stream is bool(request.body.get("stream")))
            and (self.contains is None or self.contains in str(request.body))
            and (self.where is None or self.where(request))
        )


@dataclass(slots=True, kw_only=True)
class Rule:
    """A scripted answer: used for `times` matching requests, or for all where that is None."""

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}

    match: Match = field(default_factory=Match)
    reply: Reply | None = None
    fault: Fault | None = None
    times: int | None = 1
    used: int = 0

    def __post_init__(self) -> None:
        if self.times is not None and self.times < 1:
            raise ValueError(
                f"times must be at least 1, or None for every matching request, not {self.times}"
            )


RULE = TypeAdapter(Rule)
REPLY = TypeAdapter(Reply)
FAULT = TypeAdapter(Fault)
NO_FAULT = Fault()


class Script:
    """Rules in the order they were given; the first that matches is used."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def add(self, rule: Rule) -> None:
        self._rules.append(rule)

    def clear(self) -> None:
        self._rules.clear()

    def take(self, request: RecordedRequest) -> Rule | None:
        for rule in self._rules:
            if rule.match(request):
                rule.used += 1
                if rule.used == rule.times:
                    self._rules.remove(rule)
                return rule
        return None
