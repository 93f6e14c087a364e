"""The answer to a prompt, whichever dialect it came in: scripted, or derived from the prompt itself."""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from tests.doubles.provider.example import example_of
from tests.doubles.provider.script import Reply, ToolCall, Usage

_WORDS = re.compile(r"\S+\s*|\s+")
_FILLER = ("Here", "follows", "what", "there", "is", "to", "say", "about", "it,", "word", "by", "word.")
_ECHO_CHARS = 400
_TRIGGER = "use the tool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A tool the request offers, with the JSON schema of its arguments."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What both dialects say, as far as an answer depends on it.

    Attributes:
        last_text: The text of the last user message that has any.
        tool_result: The result that ends the conversation, None where it ends otherwise.
        tool_choice: "auto", "none", "any", or the name of a tool behind "tool:".
        cacheable: The text of the prefix that the vendor would cache, "" for none.
        chars: Length of everything the model reads.
        json_schema: The schema the answer must obey, {} for any JSON, None for text.
    """

    model: str
    last_text: str
    tool_result: str | None
    tools: tuple[Tool, ...]
    tool_choice: str
    cacheable: str
    chars: int
    json_schema: Mapping[str, Any] | None
    max_output_tokens: int | None
    stop: Sequence[str]
    stream: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer in pieces; `ended` is "stop", "length", "tool" or "stop_sequence"."""

    thinking: Sequence[str]
    text: Sequence[str]
    tool_calls: Sequence[ToolCall]
    usage: Usage
    ended: str
    stop_sequence: str | None
    finish_reason: str | None
    service_tier: str | None


class PromptCache:
    """The prefixes seen before, the newest thousand: what the vendors would bill as cached."""

    _LIMIT = 1000

    def __init__(self) -> None:
        self._seen: OrderedDict[int, None] = OrderedDict()

    def clear(self) -> None:
        self._seen.clear()

    def meet(self, prefix: str) -> bool:
        """Whether the prefix was met before; it is from now on."""
        key = hash(prefix)
        known = key in self._seen
        self._seen[key] = None
        self._seen.move_to_end(key)
        if len(self._seen) > self._LIMIT:
            self._seen.popitem(last=False)
        return known


def tokens(chars: int) -> int:
    """The vendors' rule of thumb: four characters a token."""
    return -(-chars // 4)


def split(text: str, chunks: int | None) -> list[str]:
    """The text in `chunks` pieces, or a piece per word; fewer where there are not so many characters."""
    words: list[str] = _WORDS.findall(text)
    if chunks is None or not text:
        return words
    units: Sequence[str] = words if len(words) >= chunks else text
    count = min(chunks, len(units))
    return ["".join(units[i * len(units) // count : (i + 1) * len(units) // count]) for i in range(count)]


def compose(prompt: Prompt, reply: Reply | None, *, chunks: int | None, cache: PromptCache) -> Answer:
    """The answer to the prompt, cut at its stop sequences and its limit of output tokens."""
    reply = reply or Reply()
    chunks = reply.chunks or chunks
    calls = _calls(prompt, reply)
    text = reply.text
    if text is None:
        text = "" if calls else _default_text(prompt, chunks)
    text, stop_sequence = _cut_at_stop(text, prompt.stop)
    ended = "tool" if calls else "stop_sequence" if stop_sequence else "stop"
    if prompt.max_output_tokens is not None and tokens(len(text)) > prompt.max_output_tokens:
        text, ended, stop_sequence = text[: prompt.max_output_tokens * 4], "length", None
    return Answer(
        thinking=split(reply.thinking, None),
        text=split(text, chunks),
        tool_calls=calls,
        usage=reply.usage or _count(prompt, text, reply.thinking, calls, cache),
        ended=ended,
        stop_sequence=stop_sequence,
        finish_reason=reply.finish_reason,
        service_tier=reply.service_tier,
    )


def arguments_json(call: ToolCall) -> str:
    return call.arguments if isinstance(call.arguments, str) else orjson.dumps(dict(call.arguments)).decode()


def _default_text(prompt: Prompt, chunks: int | None) -> str:
    if prompt.tool_result is not None:
        text = f"The tool returned: {prompt.tool_result[:_ECHO_CHARS]}"
    elif prompt.json_schema is not None:
        schema = prompt.json_schema or {"type": "object", "properties": {"answer": {"type": "string"}}}
        return orjson.dumps(example_of(schema, prompt.last_text[:_ECHO_CHARS])).decode()
    else:
        text = f"You said: {prompt.last_text[:_ECHO_CHARS]}"
    missing = (chunks or 0) - len(text.split())
    if missing > 0:
        text += "".join(f" {_FILLER[i % len(_FILLER)]}" for i in range(missing))
    return text


def _calls(prompt: Prompt, reply: Reply) -> tuple[ToolCall, ...]:
    if reply.tool_calls:
        return reply.tool_calls
    if not prompt.tools or prompt.tool_choice == "none" or reply.text is not None:
        return ()
    forced = prompt.tool_choice != "auto"
    asked = _TRIGGER in prompt.last_text.lower()
    if not (reply.call_tool or (prompt.tool_result is None and (forced or asked))):
        return ()
    named = prompt.tool_choice.removeprefix("tool:")
    mentioned = (tool for tool in prompt.tools if tool.name == named or tool.name in prompt.last_text)
    tool = next(mentioned, prompt.tools[0])
    return (ToolCall(name=tool.name, arguments=example_of(tool.schema, prompt.last_text[:_ECHO_CHARS])),)


def _cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, str | None]:
    found = [(text.find(sequence), sequence) for sequence in stop if sequence in text]
    if not found:
        return text, None
    at, sequence = min(found)
    return text[:at], sequence


def _count(prompt: Prompt, text: str, thinking: str, calls: Sequence[ToolCall], cache: PromptCache) -> Usage:
    reasoning = tokens(len(thinking))
    called = sum(tokens(len(call.name) + len(arguments_json(call))) for call in calls)
    prefix = tokens(len(prompt.cacheable))
    known = cache.meet(prompt.cacheable) if prefix else False
    return Usage(
        input_tokens=max(1, tokens(prompt.chars)),
        output_tokens=max(1, tokens(len(text)) + reasoning + called),
        cached_tokens=prefix if known else 0,
        cache_write_tokens=0 if known else prefix,
        reasoning_tokens=reasoning,
    )
