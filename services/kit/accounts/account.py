"""What an account is opened with, and what comes of it.

An account is what one request may use up: the gateway opens it against the limits of key and tenant, the
router draws from it before every attempt and settles after it, and who ends the request closes it. What was
reserved and not used goes back to the limits.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

DAY_S = 24 * 60 * 60
MONTH_S = 32 * DAY_S
"""Longer than every month: the counter's name tells the month."""
PLACE_S = 1.0
"""A place may become free at any time: this is when to ask again."""


class Kind(Enum):
    """What a limit counts; the values are the scripts' own."""

    REQUESTS = "r"
    TOKENS = "t"
    COST = "c"
    PLACES = "p"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit of a key or a tenant.

    Attributes:
        name: As people know it, such as `tokens_per_minute`.
        subject: Whose it is: `key/<id>` or `tenant`.
        most: Zero allows nothing.
        window: The calendar window, such as `2026-11-24`; empty for one that begins at its first use.
        window_s: How long the counter lives: `DAY_S` and `MONTH_S` for those of the calendar, 0 for places.
    """

    name: str
    subject: str
    kind: Kind
    most: int
    window: str = ""
    window_s: int = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """What the request as a whole may use, whoever works on it; None for no cap, zero for nothing."""

    tokens: int | None = None
    cost_micro_usd: int | None = None
    model_calls: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Tokens, input and output together, and micro-USD."""

    tokens: int = 0
    cost_micro_usd: int = 0


NOTHING = Amount()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a limit stands; `reset_s` is the time until its window ends, 0 for places."""

    limit: Limit
    used: int
    reset_s: float

    def resets_in_s(self, now: datetime) -> float:
        """Until there is more: the end of the window, at midnight UTC for those of the calendar."""
        match self.limit.window_s:
            case 0:
                return PLACE_S
            case span if span == DAY_S:
                return DAY_S - (now.hour * 3600 + now.minute * 60 + now.second)
            case span if span == MONTH_S:
                following = now.replace(year=now.year + now.month // 12, month=now.month % 12 + 1, day=1)
                return (following.replace(hour=0, minute=0, second=0, microsecond=0) - now).total_seconds()
        return max(self.reset_s, 0.001)

    @property
    def remaining(self) -> int:
        """What is left, never below zero."""
        return max(0, self.limit.most - self.used)


class RefusedError(Exception):
    """A limit or a cap does not allow it.

    Attributes:
        standing: The limit; None where a cap of the request refused.
        cap: The cap's name, such as `max_tokens`; empty where a limit refused.
    """

    def __init__(self, standing: Standing | None = None, *, cap: str = "") -> None:
        super().__init__(cap or (standing.limit.name if standing else ""))
        self.standing = standing
        self.cap = cap


class AccountsUnavailableError(Exception):
    """The accounts' store does not answer now.

    Attributes:
        was_sent: True when the command may have been carried out all the same.
    """

    def __init__(self, message: str, *, was_sent: bool = False) -> None:
        super().__init__(message)
        self.was_sent = was_sent
