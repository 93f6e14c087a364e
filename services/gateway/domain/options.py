"""What a caller says beside the body, in request headers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from quartet.common.v1 import generation_pb2
from quartet.router.v1 import router_pb2
from services.kit import names
from services.kit.errors import InvalidArgument

BUDGET = "x-quartet-budget-micro-usd"
SESSION = "x-quartet-session"
LABELS = "x-quartet-labels"
PRIORITY = "x-quartet-priority"
IDEMPOTENCY_KEY = "idempotency-key"
CACHE_CONTROL = "cache-control"

MAX_TIMEOUT_MS = 3_600_000
_MAX_UINT64 = 2**64 - 1
_MAX_TEXT_CHARS = 256
_MAX_LABELS = 16
_MAX_LABEL_CHARS = 128
_LABEL_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_PRIORITIES: Mapping[str, generation_pb2.Priority.ValueType] = {
    "critical": generation_pb2.PRIORITY_CRITICAL,
    "default": generation_pb2.PRIORITY_DEFAULT,
    "sheddable": generation_pb2.PRIORITY_SHEDDABLE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The headers that shape a request, read and checked; None and empty mean not said."""

    budget_micro_usd: int | None = None
    timeout_s: float | None = None
    session: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: generation_pb2.Priority.ValueType = generation_pb2.PRIORITY_UNSPECIFIED
    idempotency_key: str = ""
    cache_control: str = ""

    def fill(self, prompt: router_pb2.Prompt) -> None:
        """Writes them into a prompt, where its body does not say otherwise."""
        self._fill_budget(prompt.budget)
        if not prompt.session:
            prompt.session = self.session
        if self.labels:
            self._add_labels(prompt)
        if not prompt.priority:
            prompt.priority = self.priority
        if not prompt.idempotency_key:
            prompt.idempotency_key = self.idempotency_key
        prompt.cache_control = self.cache_control

    def fill_texts(self, request: router_pb2.EmbedRequest) -> None:
        """As `fill`, for texts to embed."""
        self._fill_budget(request.budget)
        request.cache_control = self.cache_control

    def _fill_budget(self, budget: generation_pb2.Budget) -> None:
        if self.budget_micro_usd is not None and not budget.HasField("max_cost_micro_usd"):
            budget.max_cost_micro_usd = self.budget_micro_usd

    def _add_labels(self, prompt: router_pb2.Prompt) -> None:
        for name, value in self.labels.items():
            if name not in prompt.labels:
                prompt.labels[name] = value
        if len(prompt.labels) > _MAX_LABELS:
            raise _refuse(LABELS, f"must name at most {_MAX_LABELS} labels, those of the body included")


def read_options(metadata: Mapping[str, str]) -> Options:
    """Reads the request headers; raises InvalidArgument with the header as the field."""
    timeout_ms = _number(metadata, names.TIMEOUT_HEADER, least=1, most=MAX_TIMEOUT_MS)
    return Options(
        budget_micro_usd=_number(metadata, BUDGET, least=0, most=_MAX_UINT64),
        timeout_s=None if timeout_ms is None else timeout_ms / 1000,
        session=_text(metadata, SESSION),
        labels=_labels(metadata),
        priority=_priority(metadata),
        idempotency_key=_text(metadata, IDEMPOTENCY_KEY),
        cache_control=_cache_control(metadata),
    )


def _number(metadata: Mapping[str, str], header: str, *, least: int, most: int) -> int | None:
    text = metadata.get(header)
    if text is None:
        return None
    # Longer texts are no number within the bounds; int() of a very long one would be slow.
    if text.isascii() and text.isdigit() and len(text) <= 20 and least <= (number := int(text)) <= most:
        return number
    raise _refuse(header, f"must be a whole number from {least} to {most}")


def _text(metadata: Mapping[str, str], header: str) -> str:
    text = metadata.get(header, "")
    if len(text) > _MAX_TEXT_CHARS:
        raise _refuse(header, f"must have at most {_MAX_TEXT_CHARS} characters")
    return text


def _labels(metadata: Mapping[str, str]) -> dict[str, str]:
    """Of `team=search, tier=gold`: the names in any case, the values as they are."""
    text = metadata.get(LABELS)
    if not text:
        return {}
    pairs = text.split(",")
    if len(pairs) > _MAX_LABELS:
        raise _refuse(LABELS, f"must name at most {_MAX_LABELS} labels")
    labels: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        name, value = name.strip().lower(), value.strip()
        if not _LABEL_NAME.fullmatch(name) or not 1 <= len(value) <= _MAX_LABEL_CHARS:
            description = (
                "must be `name=value, name=value`: names of up to 64 letters, digits, `_`, `.` and `-`, "
                f"values of 1 to {_MAX_LABEL_CHARS} characters without commas"
            )
            raise _refuse(LABELS, description)
        if labels.setdefault(name, value) != value:
            raise _refuse(LABELS, f"gives {name} two values: leave one out")
    return labels


def _priority(metadata: Mapping[str, str]) -> generation_pb2.Priority.ValueType:
    text = metadata.get(PRIORITY)
    if text is None:
        return generation_pb2.PRIORITY_UNSPECIFIED
    priority = _PRIORITIES.get(text.lower())
    if priority is None:
        raise _refuse(PRIORITY, f"must be one of {', '.join(_PRIORITIES)}")
    return priority


def _cache_control(metadata: Mapping[str, str]) -> str:
    """The directive that matters here; others are passed over, as HTTP wants it."""
    directives = {word.strip().lower() for word in metadata.get(CACHE_CONTROL, "").split(",")}
    if "no-store" in directives:
        return "no-store"
    return "no-cache" if directives & {"no-cache", "max-age=0"} else ""


def _refuse(header: str, description: str) -> InvalidArgument:
    return InvalidArgument.field(header, description, reason="INVALID_HEADER")
