"""What `models.yaml` says of a model."""

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from services.kit.config_file import Strict
from services.router.domain.catalogue import Balance, Batching, Capability, Sampling, Thinking
from services.router.domain.prices import Tier

Tokens = Annotated[int, Field(ge=0, le=100_000_000)]
MicroUsd = Annotated[int, Field(ge=0, strict=True)]


class Origin(Strict):
    """Where figures are from, and as of when."""

    title: str
    as_of: str = Field(pattern=r"^20\d\d-\d\d(-\d\d)?$")


class Figures(Strict):
    """Micro-USD for a million tokens, by kind."""

    input: MicroUsd | None = None
    output: MicroUsd | None = None
    cached_input: MicroUsd | None = None
    cache_write: MicroUsd | None = None
    reasoning: MicroUsd | None = None


class PriceLine(Figures):
    """Figures of one source, and those for answers that were served at the tiers of `domain.prices`.

    With `above_tokens` they are those of requests whose input is longer.
    """

    source: str
    above_tokens: int = Field(0, ge=1, le=100_000_000)
    batch: Figures = Figures()
    priority: Figures = Figures()

    def at(self, tier: Tier) -> Figures:
        """The figures for a tier."""
        return self.batch if tier is Tier.BATCH else self.priority


class Shutdown(Strict):
    """The day on which a provider turns a model off."""

    source: str
    date: date


class TraitsEntry(Strict):
    """Which parameters a model takes."""

    sampling: Sampling = Sampling.ANY
    output_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    forced_tools: bool = True
    reasoning_with_tools: bool = True
    thinking: Thinking = Thinking.NONE
    efforts: tuple[str, ...] = ()
    prefill: bool = True


class LimitsEntry(Strict):
    """What a provider allows."""

    requests_per_minute: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1)
    concurrent: int | None = Field(None, ge=1)


class DeploymentEntry(Strict):
    """One of the places where a model is served."""

    provider: str
    upstream: str = ""
    weight: float = Field(1.0, gt=0, le=1000)
    limits: LimitsEntry | None = None


class BatchEntry(Strict):
    """What one call for vectors may hold."""

    texts: Annotated[int, Field(ge=1, le=2048)] = Batching().texts
    tokens: Annotated[int, Field(ge=1, le=100_000_000)] = Batching().tokens
    concurrent: Annotated[int, Field(ge=1, le=64)] = Batching().concurrent


class VectorCache(Strict):
    """How long a model's vectors are kept."""

    ttl_s: Annotated[int, Field(ge=1, le=366 * 24 * 3600)] = 7 * 24 * 3600


class EmbeddingCache(VectorCache):
    """How long all models' vectors are kept, and how many."""

    max_tenant_mib: Annotated[int, Field(ge=1, le=1024 * 1024)] = 16


class ModelEntry(Strict):
    """A model, wherever it is served."""

    id: str = Field(min_length=1, max_length=256)
    aliases: tuple[str, ...] = ()
    upstream: str = ""
    source: str = ""
    context_window: Tokens
    max_output_tokens: Tokens
    capabilities: frozenset[Capability] = frozenset()
    dimension: int = Field(0, ge=0, le=8192)
    batch: BatchEntry | None = None
    cache: VectorCache | Literal[False] | None = None
    prices: tuple[PriceLine, ...] = ()
    shutdown: Shutdown | None = None
    successor: str = ""
    traits: TraitsEntry = TraitsEntry()
    deployments: tuple[DeploymentEntry, ...] = ()
    balance: Balance = Balance.WEIGHTED
    first_token_s: float | None = Field(None, gt=0)
    between_tokens_s: float | None = Field(None, gt=0)
