"""The models that exist, what each can do and takes, and which one a name leads to today."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from enum import Enum, StrEnum

from services.kit.errors import NotFound
from services.router.domain.prices import Prices

MAX_SUCCESSIONS = 8
"""Successors followed from a dead model; the catalogue refuses longer chains."""
MAX_CLOSE_MATCHES = 3

LOCAL = "local"
"""The provider of the models that run in this process."""


class Capability(StrEnum):
    """What a model can do beyond answering text with text; looked up so often that the hash matters."""

    TOOLS = "tools"
    VISION = "vision"
    DOCUMENTS = "documents"
    JSON_SCHEMA = "json_schema"
    REASONING = "reasoning"
    PROMPT_CACHING = "prompt_caching"
    EMBEDDINGS = "embeddings"
    PASSAGES_ONLY = "passages_only"
    """It answers from given passages and from nothing else."""


class Dialect(Enum):
    """The wire format of a provider."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    LOCAL = "local"


class Sampling(Enum):
    """Which of temperature, top_p and top_k a model takes."""

    ANY = "any"
    ONE = "one"
    """One of temperature and top_p at a time."""
    WITHOUT_REASONING = "without_reasoning"
    """Only while its reasoning effort is `none`."""
    NONE = "none"


class Thinking(Enum):
    """How a model's reasoning is asked for, where the dialect has a switch."""

    NONE = "none"
    BUDGET = "budget"
    """Off, or on with a number of tokens."""
    ADAPTIVE = "adaptive"
    """Off, or as much as the model finds right; a number of tokens is refused."""
    BOTH = "both"
    ALWAYS = "always"
    """Adaptive, and it cannot be switched off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """Which parameters a model takes; what it does not is adapted or refused before it is called.

    Attributes:
        output_limit: The name of the parameter that limits the output, in OpenAI's dialect.
        forced_tools: Whether a tool call can be required.
        reasoning_with_tools: Whether it can reason where tools are offered.
        efforts: The words for reasoning effort that it knows, least first; empty when it has no such
        parameter. prefill: Whether the last message may be the beginning of its own answer.
    """

    sampling: Sampling = Sampling.ANY
    output_limit: str = "max_tokens"
    forced_tools: bool = True
    reasoning_with_tools: bool = True
    thinking: Thinking = Thinking.NONE
    efforts: tuple[str, ...] = ()
    prefill: bool = True


class Balance(Enum):
    """How calls are spread over a model's deployments."""

    WEIGHTED = "weighted"
    LEAST_LATENCY = "least_latency"
    """The faster of two drawn by weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a provider allows; None for what it does not bound."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How many texts one call to an embedding model may have, and how many calls one request makes at once.

    The defaults for texts and tokens are OpenAI's bounds, by its API reference.
    """

    texts: int = 2048
    tokens: int = 300_000
    concurrent: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorCaching:
    """How long an embedding model's vectors are kept, and the bytes that all of one tenant's may take."""

    ttl_s: int
    max_tenant_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a model is deployed.

    Attributes:
        upstream: The name by which this provider knows the model.
        weight: Its share of the calls, in proportion to the other sites' weights.
        limits: None where the provider's are not declared.
    """

    provider: str
    upstream: str
    weight: float = 1.0
    limits: Limits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """An entry of `models.yaml`, as one provider serves it.

    Attributes:
        provider: The one it is listed with; `sites` tells where else it is deployed.
        upstream: The name by which the provider knows it.
        context_window: Tokens of input that it takes.
        max_output_tokens: 0 for models that write no text.
        dimension: Length of its vectors; 0 for models that do not embed.
        batching: How texts to embed are sent.
        vector_caching: How its vectors are kept; None for not at all.
        shutdown: The day on which its provider turns it off; None when not announced.
        successor: The id of the model that takes over; empty when none is named.
        sites: Where it is deployed; empty for at its provider alone.
        balance: How calls are spread over them.
        first_token_s, between_tokens_s: Longest silence of its streams; None for the settings'.
    """

    id: str
    provider: str
    dialect: Dialect
    upstream: str
    prices: Prices
    context_window: int
    max_output_tokens: int
    capabilities: frozenset[Capability]
    traits: Traits = field(default_factory=Traits)
    aliases: tuple[str, ...] = ()
    dimension: int = 0
    batching: Batching = Batching()
    vector_caching: VectorCaching | None = None
    shutdown: date | None = None
    successor: str = ""
    sites: tuple[Site, ...] = ()
    balance: Balance = Balance.WEIGHTED
    first_token_s: float | None = None
    between_tokens_s: float | None = None

    def at(self, site: Site) -> "Model":
        """The model as it is called at a site."""
        return replace(self, provider=site.provider, upstream=site.upstream)

    def all_sites(self) -> tuple[Site, ...]:
        """Where it is deployed: at least one."""
        return self.sites or (Site(provider=self.provider, upstream=self.upstream),)

    def is_dead(self, today: date) -> bool:
        """True from the day of its shutdown on."""
        return self.shutdown is not None and today >= self.shutdown

    def can(self, capability: Capability) -> bool:
        """Whether it has the capability."""
        return capability in self.capabilities


class CatalogueError(ValueError):
    """The models contradict each other; the message names them. `model` is the index of the one at fault."""

    def __init__(self, message: str, *, model: int) -> None:
        super().__init__(message)
        self.model = model


class Catalogue:
    """Every model by id and alias.

    Raises CatalogueError for names used twice, unknown successors and circles.
    """

    def __init__(self, models: Sequence[Model], *, default_embedding: str) -> None:
        self._models = {model.id: model for model in models}
        self._names: dict[str, str] = {}
        for index, model in enumerate(models):
            for name in (model.id, *model.aliases):
                if name in self._names:
                    raise CatalogueError(f"{name!r} names two models", model=index)
                self._names[name] = model.id
        for index, model in enumerate(models):
            self._check_succession(model, index)
        self.default_embedding = default_embedding
        if default_embedding not in self._names:
            raise CatalogueError(f"the default embedding model {default_embedding!r} is not there", model=0)

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def find(self, name: str) -> Model:
        """The model of an id or alias, dead or not; raises NotFound with the names that come close."""
        model_id = self._names.get(name)
        if model_id is None:
            close = difflib.get_close_matches(name, self._names, n=MAX_CLOSE_MATCHES, cutoff=0.5)
            hint = f": did you mean {', '.join(close)}?" if close else "; ask for the list of models"
            message = f"there is no model {name!r}{hint}"
            raise NotFound(message, reason="MODEL_NOT_FOUND", metadata={"model": name[:256]})
        return self._models[model_id]

    def succeed(self, model: Model, today: date) -> tuple[Model, tuple[str, ...]]:
        """The model that serves in its place today, and a warning for each that is dead or about to be.

        A dead model without a successor is returned as it is: the caller refuses it.
        """
        warnings: list[str] = []
        while model.is_dead(today) and model.successor:
            successor = self._models[model.successor]
            warnings.append(
                f"{model.id} was shut down on {model.shutdown}: {successor.id} answers in its place"
            )
            model = successor
        if model.shutdown is not None and not model.is_dead(today):
            warnings.append(
                f"{model.id} will be shut down on {model.shutdown}"
                + (f": move to {model.successor}" if model.successor else "")
            )
        return model, tuple(warnings)

    def _check_succession(self, model: Model, index: int) -> None:
        seen = [model.id]
        while model.successor:
            if model.successor not in self._models:
                raise CatalogueError(
                    f"the successor {model.successor!r} of {model.id} is not there", model=index
                )
            if model.successor in seen or len(seen) > MAX_SUCCESSIONS:
                raise CatalogueError(f"the successors of {seen[0]} lead in a circle", model=index)
            seen.append(model.successor)
            model = self._models[model.successor]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderState:
    """Whether a provider can be called, and if not, which settings would change that."""

    name: str
    dialect: Dialect
    missing: tuple[str, ...] = ()

    @property
    def unavailable_because(self) -> str:
        """Empty when it is available."""
        return f"none of {' and '.join(self.missing)} is set" if self.missing else ""


Providers = Mapping[str, ProviderState]
