"""What the vendors refuse with 400, by model and API version, as of 2026-11."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.doubles.provider.signature import sign

# The parameters of the openai SDK 3.54's CompletionCreateParams.
_OPENAI_FIELDS = frozenset(
    {
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "modalities",
        "model",
        "moderation",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    }
)
# The parameters of the anthropic SDK 2.12, and the sampling parameters that API version 2026-10-21 removed.
_COUNT_FIELDS = frozenset(
    {
        "cache_control",
        "messages",
        "model",
        "output_config",
        "speed",
        "system",
        "thinking",
        "tool_choice",
        "tools",
        "user_profile_id",
        "workspace_id",
    }
)
_SAMPLING = ("temperature", "top_p", "top_k")
_ANTHROPIC_FIELDS = _COUNT_FIELDS | frozenset(
    {
        "container",
        "diagnostics",
        "inference_geo",
        "max_tokens",
        "metadata",
        "service_tier",
        "stop_sequences",
        "stream",
    }
)
_VERSION_WITHOUT_SAMPLING = "2026-10-21"

_GPT = re.compile(r"gpt-(\d+)(?:\.(\d+))?")
_O_SERIES = re.compile(r"o\d")
_CLAUDE = re.compile(r"claude-(opus|sonnet|haiku|fable|mythos)-(\d+)(?:-(\d{1,2}))?(?!\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A 400 of the vendor's; `param` and `code` are OpenAI's."""

    message: str
    param: str | None = None
    code: str | None = None


def refuse_openai(body: Mapping[str, Any]) -> Refusal | None:
    """The first thing Chat Completions would refuse, by the parameter rules of the model named."""
    for name in body:
        if name not in _OPENAI_FIELDS:
            return Refusal(message=f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return Refusal(
            message="Invalid 'messages': empty array. Expected an array with minimum length 1.",
            param="messages",
            code="empty_array",
        )
    return _unanswered_openai_call(messages) or _refuse_reasoning_parameters(body)


def _refuse_reasoning_parameters(body: Mapping[str, Any]) -> Refusal | None:
    model = body["model"]
    gpt = _GPT.match(model)
    version = (int(gpt[1]), int(gpt[2] or 0)) if gpt else (0, 0)
    if version < (5, 0) and not _O_SERIES.match(model):
        return None
    effort = body.get("reasoning_effort")
    if body.get("max_tokens") is not None:
        return Refusal(
            message="Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            param="max_tokens",
            code="unsupported_parameter",
        )
    # GPT-5.1 to 5.5 sample freely while they do not reason; from 5.6 on the temperature is fixed.
    if not (effort == "none" and (5, 1) <= version < (5, 6)):
        for name in ("temperature", "top_p"):
            if body.get(name) not in (None, 1):
                return Refusal(
                    message=f"Unsupported value: '{name}' does not support {body[name]} with this model. "
                    "Only the default (1) value is supported.",
                    param=name,
                    code="unsupported_value",
                )
    # GPT-5.6 and later reason by default: they take function tools here only with an explicit "none".
    reasons = effort != "none" if version >= (5, 6) else version >= (5, 4) and effort not in (None, "none")
    if reasons and body.get("tools"):
        return Refusal(
            message=f"Function tools with reasoning_effort are not supported for {model} "
            "in /v1/chat/completions. To use function tools, use /v1/responses or set "
            "reasoning_effort to 'none'.",
            param="reasoning_effort",
        )
    return None


def _unanswered_openai_call(messages: Sequence[Mapping[str, Any]]) -> Refusal | None:
    for index, message in enumerate(messages):
        calls = {call["id"] for call in message.get("tool_calls") or ()}
        for later in messages[index + 1 :]:
            if later["role"] != "tool":
                break
            calls.discard(later.get("tool_call_id"))
        if calls:
            return Refusal(
                message="An assistant message with 'tool_calls' must be followed by tool messages "
                "responding to each 'tool_call_id'. The following tool_call_ids did not have response "
                f"messages: {', '.join(calls)}",
                param=f"messages.[{index + 1}].role",
            )
    return None


def refuse_anthropic(body: Mapping[str, Any], *, version: str | None, counting: bool) -> Refusal | None:
    """The first thing the Messages API, or its count_tokens, would refuse at the API version sent."""
    if not version:
        return Refusal(message="anthropic-version: header is required")
    allowed = _COUNT_FIELDS if counting else _ANTHROPIC_FIELDS
    sampling_removed = counting or version >= _VERSION_WITHOUT_SAMPLING
    for name in body:
        if name not in allowed and (sampling_removed or name not in _SAMPLING):
            return Refusal(message=f"{name}: Extra inputs are not permitted")
    if not counting and not isinstance(body.get("max_tokens"), int):
        return Refusal(message="max_tokens: Field required")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return Refusal(message="messages: at least one message is required")
    return (
        _unanswered_anthropic_use(messages)
        or _foreign_thinking(body["model"], messages)
        or _refuse_by_claude_version(body)
    )


def _refuse_by_claude_version(body: Mapping[str, Any]) -> Refusal | None:
    claude = _CLAUDE.match(body["model"])
    if claude is None:
        return None
    top_line = claude[1] in ("fable", "mythos")
    version = (int(claude[2]), int(claude[3] or 0))
    thinking = (body.get("thinking") or {}).get("type")
    if version >= (4, 7):
        for name in _SAMPLING:
            if body.get(name) not in (None, 1):
                return Refusal(message=f"`{name}` is deprecated for this model.")
        if thinking == "enabled":
            return Refusal(
                message='"thinking.type.enabled" is not supported for this model. Use '
                '"thinking.type.adaptive" and "output_config.effort" to control thinking behavior.'
            )
    if top_line and thinking == "disabled":
        return Refusal(message='"thinking.type.disabled" is not supported for this model.')
    forced = (body.get("tool_choice") or {}).get("type") in ("any", "tool")
    if forced and version >= ((5, 1) if top_line else (5, 5)):
        return Refusal(message='tool_choice: type "tool" and "any" are not supported for this model.')
    if version >= (4, 6) and body["messages"][-1].get("role") == "assistant":
        return Refusal(
            message="This model does not support assistant message prefill. "
            "The conversation must end with a user message."
        )
    return None


def _blocks(message: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    content = message.get("content")
    return [block for block in content if block.get("type") == kind] if isinstance(content, list) else []


def _unanswered_anthropic_use(messages: Sequence[Mapping[str, Any]]) -> Refusal | None:
    for index, message in enumerate(messages):
        uses = {block["id"] for block in _blocks(message, "tool_use")}
        if index + 1 < len(messages):
            uses -= {block.get("tool_use_id") for block in _blocks(messages[index + 1], "tool_result")}
        if uses:
            return Refusal(
                message=f"messages.{index}: `tool_use` ids were found without `tool_result` blocks "
                f"immediately after: {', '.join(uses)}. Each `tool_use` block must have a corresponding "
                "`tool_result` block in the next message."
            )
    return None


def _foreign_thinking(model: str, messages: Sequence[Mapping[str, Any]]) -> Refusal | None:
    for index, message in enumerate(messages):
        for block in _blocks(message, "thinking"):
            if block.get("signature") != sign(model, block.get("thinking", "")):
                return Refusal(message=f"messages.{index}.content.0: Invalid `signature` in `thinking` block")
    return None
