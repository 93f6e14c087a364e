"""Why a model cannot serve a prompt, however the request is adapted."""

from collections.abc import Iterator

from services.router.domain.catalogue import Capability, Dialect, Model
from services.router.domain.features import NO_DEMANDS, Demands, Features

MAX_OPENAI_STOPS = 4
"""Stop sequences that OpenAI's Chat Completions takes, by its documentation."""


_SPOKEN = {
    "openai": "OpenAI's dialect",
    "anthropic": "Anthropic's dialect",
    "responses": "OpenAI's Responses",
}


def objections(model: Model, features: Features) -> Iterator[str]:
    """Each reason against the model, for a person; none when it can serve."""
    if model.can(Capability.EMBEDDINGS):
        yield "it makes embeddings and writes no text"
        return
    if model.can(Capability.PASSAGES_ONLY):
        if not features.has_passages:
            yield "it answers from given passages only, and the request has none"
        if features.demands.needs:
            yield f"it has no {_list(features.demands.needs)}"
        return
    demands = features.demands
    if missing := demands.needs - model.capabilities:
        yield f"it has no {_list(missing)}"
    if features.input_tokens > model.context_window:
        yield f"its window of {model.context_window} tokens is too small for {features.input_tokens} of input"
    if demands is not NO_DEMANDS:
        yield from _objections_to(demands, model)


def _objections_to(demands: Demands, model: Model) -> Iterator[str]:
    if demands.forces_tools and not model.traits.forced_tools:
        yield "it refuses forced tool use: leave the choice to the model (tool_choice `auto`)"
    if demands.is_prefilled and not model.traits.prefill:
        yield "it takes no beginning of its own answer: end the conversation with a user message"
    yield from _dialect_objections(model.dialect, demands)


def _dialect_objections(dialect: Dialect, demands: Demands) -> Iterator[str]:
    for name in sorted(demands.only_dialects - {dialect.value}):
        yield f"the request uses tools or content that only {_SPOKEN[name]} has: leave them out"
    if dialect is Dialect.OPENAI:
        if demands.stop_count > MAX_OPENAI_STOPS:
            yield f"it takes {MAX_OPENAI_STOPS} stop sequences at most"
        if demands.has_document_url:
            yield "it takes files as data only: send the document's bytes instead of its address"
        if demands.has_image_file:
            yield "it takes no pictures by file id: send the picture's bytes or address"


def _list(capabilities: frozenset[Capability]) -> str:
    return ", ".join(sorted(capability.value for capability in capabilities))
