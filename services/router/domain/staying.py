"""Whether a conversation stays on the model that answered it last.

Two things speak for it: a task is ended as it was begun, and the model's provider has the conversation's
beginning in a prompt cache, which is read at a fraction of the price. So it stays, unless it cannot serve the
turn, is too weak for it, or another model that is as strong costs less even so.
"""

from dataclasses import dataclass
from enum import Enum

from services.router.domain.candidates import Weighed, first_able
from services.router.domain.lineup import Lineup
from services.router.domain.plan import tell_stay
from services.router.domain.prices import cached_discount
from services.router.domain.tiers import CHEAPER, STRONG


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is known of a session's last answer.

    Attributes:
        model: The id of the model that gave it.
        provider: Where that one was called.
        cached_tokens: Of the conversation's beginning, what the provider's prompt cache holds by now.
    """

    model: str
    provider: str = ""
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A model that could serve the turn.

    Attributes:
        tier: `cheaper` or `strong`, of the turn's route; empty for a model of another route.
        cost_micro_usd: What the turn would cost with it, without any prompt cache.
    """

    model: str
    tier: str
    cost_micro_usd: int

    def is_weaker_than(self, other: "Standing") -> bool:
        """By the route's tiers; by price, the only order there is, where one of them is not the route's."""
        if self.tier and other.tier:
            return (self.tier, other.tier) == (CHEAPER, STRONG)
        return self.cost_micro_usd < other.cost_micro_usd


class Verdict(Enum):
    """What becomes of a session's model that could serve the turn."""

    STAYS = "stays"
    TOO_WEAK = "too weak"
    DEARER = "dearer"


def judge_stay(
    own: Standing, *, discount_micro_usd: int, chosen: Standing | None, peer: Standing | None, is_sure: bool
) -> Verdict:
    """Whether the session's own model serves the turn.

    A weaker model never takes over: `peer` is of the same tier, and `chosen` only where it is the stronger.

    Args:
        own: The session's model.
        discount_micro_usd: What its prompt cache saves on the turn.
        chosen: Who would serve if there were no session.
        peer: The first of the own model's tier that can serve; None for a model of another route.
        is_sure: Whether `chosen` stands for a need that was recognised, and not for knowing nothing.
    """
    if is_sure and chosen is not None and own.is_weaker_than(chosen):
        return Verdict.TOO_WEAK
    if peer is not None and peer.cost_micro_usd < own.cost_micro_usd - discount_micro_usd:
        return Verdict.DEARER
    return Verdict.STAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class Stay:
    """What becomes of a session's model.

    Attributes:
        own: The model as weighed, where it serves the turn.
        is_another: It serves, and without the session another one would.
        told: In words, for a person.
    """

    own: Weighed | None
    told: str
    is_another: bool = False


NO_SESSION = Stay(own=None, told="")


def find_stay(last: Memory, own: Weighed | None, lineup: Lineup, *, input_tokens: int, is_sure: bool) -> Stay:
    """What becomes of it; its cost is told with the prompt cache from here on.

    Args:
        last: Of the session.
        own: Its model, or that one's successor, as weighed; None where the turn may not use it.
        lineup: The turn's route.
        input_tokens: Of the turn.
        is_sure: As `judge_stay` takes it.
    """
    if own is None:
        return Stay(own=None, told=f"leaves {last.model}: it is none of the route's models")
    if not own.can_serve:
        return Stay(own=None, told=f"leaves {own.model.id}: {own.rejected_because}")
    tier, chosen = lineup.tier_of(own.model), first_able(lineup.in_order())
    peer = lineup.first_of(tier)
    cached_tokens = min(last.cached_tokens, input_tokens) if own.model.id == last.model else 0
    discount = cached_discount(own.model.prices, input_tokens=input_tokens, cached_tokens=cached_tokens)
    verdict = judge_stay(
        _stand(own, tier),
        discount_micro_usd=discount,
        chosen=None if chosen is None else _stand(chosen, lineup.tier_of(chosen.model)),
        peer=None if peer is None else _stand(peer, tier),
        is_sure=is_sure,
    )
    own.cost_micro_usd = max(0, own.cost_micro_usd - discount)
    if verdict is Verdict.TOO_WEAK:
        return Stay(own=None, told=f"leaves {own.model.id}: a stronger model is needed")
    if verdict is Verdict.DEARER and peer is not None:
        saved = f"{peer.model.id} costs less than it does with its prompt cache"
        return Stay(own=None, told=f"leaves {own.model.id}: {saved}")
    is_another = chosen is None or chosen.model.id != own.model.id
    return Stay(own=own, told=tell_stay(own.model.id), is_another=is_another)


def _stand(weighed: Weighed, tier: str) -> Standing:
    return Standing(model=weighed.model.id, tier=tier, cost_micro_usd=weighed.cost_micro_usd)
