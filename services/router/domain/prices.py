"""What tokens cost, exact in integers: micro-USD per million tokens in, whole micro-USD out, rounded up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from quartet.common.v1.generation_pb2 import Usage

TOKENS_PER_PRICE = 1_000_000


class Tier(StrEnum):
    """The tiers of service that have prices of their own in `models.yaml`."""

    BATCH = "batch"
    PRIORITY = "priority"


TIERS: Mapping[str, Tier] = {
    "batch": Tier.BATCH,
    "flex": Tier.BATCH,
    "priority": Tier.PRIORITY,
    "fast": Tier.PRIORITY,
}
"""Vendors' words for them. OpenAI charges flex processing like batches, and takes `fast` for `priority`."""


class TokenKind(StrEnum):
    """The kinds of token that providers price apart; looked up so often that the hash matters."""

    INPUT = "input"
    OUTPUT = "output"
    CACHED_INPUT = "cached_input"
    CACHE_WRITE = "cache_write"
    REASONING = "reasoning"


_FALLBACKS = {
    TokenKind.CACHED_INPUT: TokenKind.INPUT,
    TokenKind.CACHE_WRITE: TokenKind.INPUT,
    TokenKind.REASONING: TokenKind.OUTPUT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Micro-USD for a million tokens, with where the figure is from and of when it is."""

    micro_usd_per_mtok: int
    source: str
    as_of: str


@dataclass(frozen=True, slots=True)
class Prices:
    """A model's prices by kind; a kind without its own costs what the kind that contains it costs.

    Attributes:
        tiers: The whole lists for answers served at tiers whose prices differ.
        longer: The whole lists for requests with a longer input, least tokens first.
    """

    by_kind: Mapping[TokenKind, Price] = field(default_factory=dict)
    tiers: Mapping[Tier, "Prices"] = field(default_factory=dict)
    longer: "tuple[Longer, ...]" = ()

    def of(self, input_tokens: int, service_tier: str = "") -> "Prices":
        """The list by which a provider charges a whole request.

        Args:
            input_tokens: Of the request, cached ones included.
            service_tier: At which it was served, in the provider's word; tiers that have no list of their own
                are charged like the usual one.
        """
        prices = self
        for longer in self.longer:
            if input_tokens > longer.above_tokens:
                prices = longer.prices
        tier = TIERS.get(service_tier)
        return prices if tier is None else prices.tiers.get(tier, prices)

    def per_mtok(self, kind: TokenKind) -> int:
        """Micro-USD for a million tokens of the kind.

        0 when neither it nor the containing kind has a price.
        """
        price = self.by_kind.get(kind)
        if price is not None:
            return price.micro_usd_per_mtok
        container = _FALLBACKS.get(kind)
        return self.per_mtok(container) if container else 0

    @property
    def are_free(self) -> bool:
        """True when no token costs anything."""
        others = (*self.tiers.values(), *(longer.prices for longer in self.longer))
        priced = any(price.micro_usd_per_mtok for price in self.by_kind.values())
        return not priced and all(prices.are_free for prices in others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Longer:
    """What all tokens of a request cost, where its input has more than so many."""

    above_tokens: int
    prices: Prices


def cost_of(usage: Usage, prices: Prices) -> int:
    """The cost of one call by its length and the tier at which it was served, in whole micro-USD, rounded up.

    Counts that contradict are read as the larger.
    """
    cached, written = usage.cached_input_tokens, usage.cache_write_tokens
    prices = prices.of(max(usage.input_tokens, cached + written), usage.service_tier)
    plain = max(0, usage.input_tokens - cached - written)
    reasoning = min(usage.reasoning_tokens, usage.output_tokens)
    return _whole(
        plain * prices.per_mtok(TokenKind.INPUT)
        + cached * prices.per_mtok(TokenKind.CACHED_INPUT)
        + written * prices.per_mtok(TokenKind.CACHE_WRITE)
        + (usage.output_tokens - reasoning) * prices.per_mtok(TokenKind.OUTPUT)
        + reasoning * prices.per_mtok(TokenKind.REASONING)
    )


def estimate_cost(prices: Prices, *, input_tokens: int, output_tokens: int, service_tier: str = "") -> int:
    """What a call would cost in micro-USD without any cache, rounded up."""
    prices = prices.of(input_tokens, service_tier)
    input_cost = input_tokens * prices.per_mtok(TokenKind.INPUT)
    return _whole(input_cost + output_tokens * prices.per_mtok(TokenKind.OUTPUT))


def cached_discount(prices: Prices, *, input_tokens: int, cached_tokens: int) -> int:
    """What is saved, in micro-USD, where so many of the input tokens come from the prompt cache."""
    prices = prices.of(input_tokens)
    difference = prices.per_mtok(TokenKind.INPUT) - prices.per_mtok(TokenKind.CACHED_INPUT)
    return max(0, difference) * cached_tokens // TOKENS_PER_PRICE


def affordable_output_tokens(
    prices: Prices, *, input_tokens: int, micro_usd: int, service_tier: str = ""
) -> int | None:
    """How many output tokens the money buys after the input.

    None for any number, negative when the input is too dear.
    """
    prices = prices.of(input_tokens, service_tier)
    left = micro_usd * TOKENS_PER_PRICE - input_tokens * prices.per_mtok(TokenKind.INPUT)
    if left < 0:
        return -1
    price = max(prices.per_mtok(TokenKind.OUTPUT), prices.per_mtok(TokenKind.REASONING))
    return left // price if price else None


def _whole(scaled_micro_usd: int) -> int:
    return -(-scaled_micro_usd // TOKENS_PER_PRICE)
