"""Turns what a caller asks into what a model takes.

Changes are listed, and nothing is sent only to be refused.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import orjson

from quartet.common.v1.generation_pb2 import GenerationSpec, ResponseFormat, ToolChoice
from quartet.common.v1.message_pb2 import Extra, Message, Part
from quartet.router.v1.router_pb2 import Prompt
from services.kit.errors import InvalidArgument
from services.router.domain.catalogue import Dialect, Model, Sampling, Thinking
from services.router.domain.ledger import UNKNOWN_PURPOSE, Purpose
from services.router.domain.routes import Route

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""The vendors' words for reasoning effort, least first."""
MIN_THINKING_TOKENS = 1_024
"""Least budget for thinking, by Anthropic's documentation."""
MAX_ANTHROPIC_TEMPERATURE = 1.0
SamplingParameter = Literal["temperature", "top_p", "top_k"]
SAMPLING: tuple[SamplingParameter, ...] = get_args(SamplingParameter)
EFFORT_BY_BUDGET = ((4_096, "low"), (16_384, "medium"))
"""Reasoning effort in place of a number of thinking tokens, for models that take no number."""

_SERVED_IN_PART = frozenset(
    (
        *("response_format", "stream_options", "tool_choice", "reasoning", "thinking", "output_config"),
        *("function", "custom", "image_url", "file", "source"),
    )
)
"""Objects of the dialects of which the canonical form holds the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """What is sent to a model.

    Attributes:
        messages: As the caller gave them; read-only.
        spec: Holds only what the model takes; `max_output_tokens` is always set.
        adapted: What was dropped or changed, by the name of the parameter.
        keeps_thinking: False drops earlier reasoning from the messages: it is bound to the model that made
        it.
        purpose: What it is for; never sent.
        first_token_s, between_tokens_s: Longest silence of a stream; None for the provider's own.
    """

    model: Model
    messages: Sequence[Message]
    spec: GenerationSpec
    adapted: tuple[str, ...]
    keeps_thinking: bool
    purpose: Purpose
    first_token_s: float | None = None
    between_tokens_s: float | None = None


def adapt(
    prompt: Prompt,
    model: Model,
    route: Route,
    *,
    output_tokens: int,
    purpose: Purpose = UNKNOWN_PURPOSE,
) -> ModelRequest:
    """The request for a model that has no objection to the prompt (see `fitness`)."""
    adaptation = _Adaptation(prompt, model, route, output_tokens)
    adaptation.limit_output()
    adaptation.fit_reasoning()
    adaptation.fit_sampling()
    adaptation.fit_form()
    adaptation.fit_extras()
    keeps_thinking = adaptation.keep_thinking()
    return ModelRequest(
        model=model,
        messages=prompt.messages,
        spec=adaptation.spec,
        adapted=tuple(adaptation.notes),
        keeps_thinking=keeps_thinking,
        purpose=purpose,
        first_token_s=route.first_token_s or model.first_token_s,
        between_tokens_s=route.between_tokens_s or model.between_tokens_s,
    )


class _Adaptation:
    """One request while it is being fitted to one model."""

    def __init__(self, prompt: Prompt, model: Model, route: Route, output_tokens: int) -> None:
        self.prompt = prompt
        self.model = model
        self.route = route
        self.output_tokens = output_tokens
        self.spec = GenerationSpec()
        self.spec.CopyFrom(prompt.spec)
        self.notes: dict[str, None] = {}

    def note(self, what: str) -> None:
        self.notes[what] = None

    def limit_output(self) -> None:
        asked = self.prompt.spec
        if asked.HasField("max_output_tokens") and asked.max_output_tokens > self.output_tokens:
            self.note("max_output_tokens")
        self.spec.max_output_tokens = self.output_tokens

    def fit_reasoning(self) -> None:
        if self.model.dialect is Dialect.ANTHROPIC:
            self._fit_thinking()
        elif self.model.dialect is Dialect.OPENAI:
            self._fit_effort()

    def fit_sampling(self) -> None:
        spec, sampling = self.spec, self.model.traits.sampling
        if self.model.dialect is Dialect.OPENAI and spec.HasField("top_k"):
            spec.ClearField("top_k")
            self.note("top_k")
        asked = spec.HasField("temperature") or spec.HasField("top_p")
        if asked and sampling is Sampling.WITHOUT_REASONING and not spec.reasoning.effort:
            # These models do not reason unless asked to; they want that said before they sample.
            spec.reasoning.effort = EFFORTS[0]
        thinks = self.model.dialect is Dialect.ANTHROPIC and spec.reasoning.mode in ("enabled", "adaptive")
        reasons = sampling is Sampling.WITHOUT_REASONING and spec.reasoning.effort != EFFORTS[0]
        if sampling is Sampling.NONE or thinks or reasons:
            for name in SAMPLING:
                self._drop_sampling(name)
        elif sampling is Sampling.ONE and spec.HasField("temperature"):
            self._drop_sampling("top_p")
        if self.model.dialect is Dialect.ANTHROPIC and spec.temperature > MAX_ANTHROPIC_TEMPERATURE:
            spec.temperature = MAX_ANTHROPIC_TEMPERATURE
            self.note("temperature")

    def fit_form(self) -> None:
        spec = self.spec
        if not spec.tools:
            spec.ClearField("parallel_tool_calls")
            spec.ClearField("tool_choice")
        if self.model.dialect is Dialect.ANTHROPIC:
            if spec.HasField("seed"):
                spec.ClearField("seed")
                self.note("seed")
            if spec.response_format.kind == ResponseFormat.KIND_JSON_OBJECT:
                # The dialect has no such form: the wire asks for it in words.
                self.note("response_format")
            visible = [text for text in spec.stop if text.strip()]
            if len(visible) < len(spec.stop):
                del spec.stop[:]
                spec.stop.extend(visible)
                self.note("stop")

    def fit_extras(self) -> None:
        """Notes what only other dialects know: the wires pass over it."""
        spec, own = self.spec, self.model.dialect.value
        if spec.extra_json and spec.extra_dialect != own:
            extras = read_object(spec.extra_json, "spec.extra_json")
            spec.extra_json = self._translate(extras)
            for name in _names(extras):
                self.note(name)
        for extra in spec.extras:
            self._note_extra(extra)
        for tool in spec.tools:
            self._note_extra(tool.extra)
            self._note_cache_control(tool.cache_control_json)
        for turn in self.prompt.messages:
            self._note_extra(turn.extra)
            self._note_parts(turn.parts)

    def _translate(self, extras: dict[str, Any]) -> str:
        """What the model's dialect has by another name, taken out of `extras`: who the end user is."""
        match self.model.dialect:
            case Dialect.ANTHROPIC:
                user = extras.pop("safety_identifier", None) or extras.get("user")
                extras.pop("user", None)
                return orjson.dumps({"metadata": {"user_id": user}}).decode() if user else ""
            case Dialect.OPENAI:
                metadata = extras.get("metadata")
                if isinstance(metadata, dict) and metadata.keys() == {"user_id"}:
                    return orjson.dumps({"user": extras.pop("metadata")["user_id"]}).decode()
        return ""

    def _note_parts(self, parts: Iterable[Part]) -> None:
        for part in parts:
            if part.HasField("extra"):
                self._note_extra(part.extra)
            self._note_cache_control(part.cache_control_json)
            kind = part.WhichOneof("kind")
            if kind == "opaque" and part.opaque.dialect != self.model.dialect.value:
                self.note(str(read_object(part.opaque.json, "opaque.json").get("type", "extra")))
            elif kind == "tool_result":
                self._note_parts(part.tool_result.content)

    def _note_extra(self, extra: Extra) -> None:
        if not extra.json or extra.dialect == self.model.dialect.value:
            return
        more = read_object(extra.json, "extra.json")
        for name in [str(more["type"])] if "type" in more else _names(more):
            # A role of a dialect's own only says ours more exactly.
            if name != "role":
                self.note(name)

    def _note_cache_control(self, text: str) -> None:
        if text and self.model.dialect is not Dialect.ANTHROPIC:
            self.note("cache_control")

    def keep_thinking(self) -> bool:
        thoughts = [
            part.thinking
            for turn in self.prompt.messages
            for part in turn.parts
            if part.WhichOneof("kind") == "thinking"
        ]
        if not thoughts:
            return False
        named = self.prompt.target.model
        same = named == self.model.id or named in self.model.aliases
        keeps = self.model.dialect is Dialect.ANTHROPIC and same
        if not keeps or not all(thought.signature or thought.redacted_data for thought in thoughts):
            self.note("thinking")
        return keeps

    def _drop_sampling(self, name: SamplingParameter) -> None:
        if not self.spec.HasField(name):
            return
        if getattr(self.spec, name) != 1:
            self.note(name)
        self.spec.ClearField(name)

    def _fit_effort(self) -> None:
        """OpenAI's dialect: one word, `reasoning_effort`."""
        asked = self.spec.reasoning
        effort = asked.effort or self.route.reasoning_effort
        if not effort and asked.mode == "disabled":
            effort = EFFORTS[0]
        if not effort and asked.HasField("budget_tokens"):
            bounds = (word for most, word in EFFORT_BY_BUDGET if asked.budget_tokens <= most)
            effort = next(bounds, "high")
            self.note("thinking")
        known = self.model.traits.efforts
        fitted = _nearest(effort, known) if effort else ""
        if self.spec.tools and not self.model.traits.reasoning_with_tools and fitted != EFFORTS[0]:
            fitted = EFFORTS[0]
            self.note("reasoning_effort")
        if asked.effort and fitted != asked.effort and (fitted or asked.effort != EFFORTS[0]):
            self.note("reasoning_effort")
        self.spec.ClearField("reasoning")
        if fitted:
            self.spec.reasoning.effort = fitted

    def _fit_thinking(self) -> None:
        """Anthropic's dialect: a mode, a number of tokens for some models, and a word for effort."""
        reasoning, thinking = self.spec.reasoning, self.model.traits.thinking
        effort = reasoning.effort or self.route.reasoning_effort
        if effort == EFFORTS[0] and not reasoning.mode and thinking is Thinking.ADAPTIVE:
            reasoning.mode = "disabled"
        fitted = _nearest(effort, self.model.traits.efforts) if effort not in ("", EFFORTS[0]) else ""
        if reasoning.effort not in ("", fitted, EFFORTS[0]):
            self.note("reasoning_effort")
        reasoning.effort = fitted
        mode = self._mode(reasoning.mode, thinking)
        forced = self.spec.tool_choice.mode in (ToolChoice.MODE_REQUIRED, ToolChoice.MODE_NAMED)
        if forced and mode in ("enabled", "adaptive") and self.spec.tools:
            mode = ""
        if mode == "enabled":
            budget = min(reasoning.budget_tokens or MIN_THINKING_TOKENS, self.output_tokens - 1)
            if budget < MIN_THINKING_TOKENS:
                mode = ""
            elif budget != reasoning.budget_tokens:
                self.note("thinking")
                reasoning.budget_tokens = budget
        if mode != reasoning.mode:
            self.note("thinking")
        reasoning.mode = mode
        if mode != "enabled":
            reasoning.ClearField("budget_tokens")

    @staticmethod
    def _mode(asked: str, thinking: Thinking) -> str:
        match asked:
            case "enabled" if thinking in (Thinking.ADAPTIVE, Thinking.ALWAYS):
                return "adaptive"
            case "adaptive" if thinking is Thinking.BUDGET:
                return "enabled"
            case "disabled" if thinking in (Thinking.ALWAYS, Thinking.NONE):
                return ""
            case "enabled" | "adaptive" if thinking is Thinking.NONE:
                return ""
        return asked


def _names(more: dict[str, Any]) -> Iterator[str]:
    """The members that are left out, such as `stream_options.x` where the rest of an object is served."""
    for name, value in more.items():
        if name in _SERVED_IN_PART and isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in value)
        else:
            yield name


def read_object(text: str, field: str) -> dict[str, Any]:
    """A JSON object from raw text; raises InvalidArgument naming the field when it is none."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidArgument.field(field, f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidArgument.field(field, "must be a JSON object")
    return value


def _nearest(effort: str, known: Sequence[str]) -> str:
    """The known word that is closest, the lesser one of two.

    A word that no vendor is known to have stays as it is.
    """
    if not known or effort in known:
        return effort if known else ""
    if effort not in EFFORTS:
        return effort
    rank = EFFORTS.index(effort)
    return min(known, key=lambda word: (abs(EFFORTS.index(word) - rank), EFFORTS.index(word)))
