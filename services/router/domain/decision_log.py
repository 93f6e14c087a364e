"""What is written down of every live choice between a route's cheaper and strong models."""

import itertools
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.router.domain.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A choice as the log keeps it; its fields are the columns of `router.decisions`.

    Attributes:
        decision_id: Unique among all routers and for ever.
        model: The one that answered.
        tier: `cheaper` or `strong`, of that model.
        shadow: What the shadow policy would have chosen; empty without one.
        cheaper_micro_usd, strong_micro_usd: What was expected to be spent with either tier.
    """

    decision_id: str
    time: datetime
    tenant: str
    trace_id: str
    route: str
    model: str
    uplift: float
    tier: str
    shadow: str
    cheaper_micro_usd: int
    strong_micro_usd: int


class ChoiceStore(Protocol):
    """Where choices are kept."""

    def record(self, entry: Choice) -> None:
        """Takes a choice to be written soon; costs the call microseconds and never fails."""
        ...


class DecisionLog:
    """Names choices and hands them to the store."""

    def __init__(self, store: ChoiceStore, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._process = secrets.token_hex(8)
        self._numbers = itertools.count(1)

    def note(self, plan: Plan, model: str, *, tenant: str, trace_id: str) -> None:
        """Notes which model answered, where the plan had a choice of tiers."""
        tiers = plan.tiers
        if tiers is None:
            return
        self._store.record(
            Choice(
                decision_id=f"{self._process}-{next(self._numbers)}",
                time=self._now(),
                tenant=tenant,
                trace_id=trace_id,
                route=plan.route.name,
                model=model,
                uplift=tiers.uplift,
                tier=tiers.tier_of(model),
                shadow=tiers.shadow,
                cheaper_micro_usd=tiers.cheaper_cost_micro_usd,
                strong_micro_usd=tiers.strong_cost_micro_usd,
            )
        )
