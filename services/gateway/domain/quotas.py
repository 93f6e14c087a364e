"""Opens an account for every request that a limit or a budget concerns, and closes it at the end."""

import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING

from quartet.common.v1 import generation_pb2, price_pb2, run_pb2
from quartet.router.v1 import router_pb2
from services.gateway.domain.limits import Limits
from services.gateway.domain.local_buckets import LocalBuckets
from services.gateway.domain.models import Listing, Models
from services.gateway.domain.ratelimit_headers import tell_limits
from services.kit.accounts.account import (
    DAY_S,
    MONTH_S,
    AccountsUnavailableError,
    Amount,
    Caps,
    Kind,
    Limit,
    RefusedError,
    Standing,
)
from services.kit.errors import ResourceExhausted, Unavailable

if TYPE_CHECKING:
    from services.gateway.domain.admission import Caller
    from services.gateway.domain.dispatch import RunTicket
    from services.gateway.ports import Accounts

EMBEDDINGS = "embeddings"
"""The capability of models that make vectors and write nothing."""

_KINDS: Mapping[str, tuple[Kind, str]] = {
    "requests_per_minute": (Kind.REQUESTS, "minute"),
    "tokens_per_minute": (Kind.TOKENS, "minute"),
    "tokens_per_day": (Kind.TOKENS, "day"),
    "micro_usd_per_day": (Kind.COST, "day"),
    "micro_usd_per_month": (Kind.COST, "month"),
    "concurrent_calls": (Kind.PLACES, ""),
}


class Absence(Enum):
    """What a limit does while Redis is away."""

    OPEN = "open"
    """Each process counts by itself."""
    CLOSED = "closed"
    """Requests are refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetDefaults:
    """What a request may use where it says nothing; None for no bound."""

    max_tokens: int | None = None
    max_cost_micro_usd: int | None = None
    max_model_calls: int | None = None
    max_iterations: int | None = None

    def fill(self, budget: generation_pb2.Budget) -> None:
        """Writes them where the budget is silent."""
        for name in ("max_tokens", "max_cost_micro_usd", "max_model_calls", "max_iterations"):
            value = getattr(self, name)
            if value is not None and not budget.HasField(name):
                setattr(budget, name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaRules:
    """What `limits.yaml` says.

    Attributes:
        key_defaults, tenant_defaults: Hold where key and tenant say nothing.
        expected_output_tokens: Reserved for a request that names no length.
        without_redis: By the limit's name.
    """

    key_defaults: Limits = field(default_factory=Limits)
    tenant_defaults: Limits = field(default_factory=Limits)
    budget: BudgetDefaults = field(default_factory=BudgetDefaults)
    expected_output_tokens: int = 1000
    without_redis: Mapping[str, Absence] = field(default_factory=dict)


class Quotas:
    """Opens and closes accounts.

    Args:
        accounts: None where there is no Redis: then every limit is in its mode for that.
        models: Tell the prices by which money is reserved.
    """

    def __init__(self, accounts: "Accounts | None", models: Models, rules: QuotaRules) -> None:
        self._accounts = accounts
        self._models = models
        self._rules = rules
        self._buckets = LocalBuckets()

    @asynccontextmanager
    async def admit(
        self, caller: "Caller", prompt: router_pb2.Prompt, model: str, ticket: "RunTicket"
    ) -> AsyncIterator[None]:
        """Opens the account of a prompt, whose budget bears it from here on, and closes it at the end.

        The account of a run that goes on when it is left here is left to the orchestrator.

        Raises:
            ResourceExhausted: `QUOTA_EXHAUSTED`, with the limit and the time at which to come again.
            Unavailable: `QUOTA_UNAVAILABLE`, when Redis is away and a limit is closed without it.
        """
        output = self._rules.expected_output_tokens
        if prompt.spec.HasField("max_output_tokens"):
            output = prompt.spec.max_output_tokens
        account = await self.open(
            caller, prompt.budget, model, input_tokens=prompt.input_tokens, output_tokens=output
        )
        try:
            yield
        except BaseException:
            if ticket.goes_on:
                self._release(account)
            else:
                self.close(caller, account)
            raise
        self.close(caller, account)

    @asynccontextmanager
    async def admit_texts(self, caller: "Caller", request: router_pb2.EmbedRequest) -> AsyncIterator[None]:
        """As `admit`, for texts to embed."""
        tokens = -(-sum(len(text.encode(errors="replace")) for text in request.texts) // 4)
        account = await self.open(
            caller, request.budget, request.model, input_tokens=tokens, output_tokens=0, embeds=True
        )
        try:
            yield
        finally:
            self.close(caller, account)

    @asynccontextmanager
    async def admit_run(self, caller: "Caller", task: run_pb2.Task) -> AsyncIterator[None]:
        """As `admit`, for a run that goes on by itself: once begun, the orchestrator closes its account."""
        output = self._rules.expected_output_tokens
        account = await self.open(caller, task.budget, "", input_tokens=0, output_tokens=output)
        try:
            yield
        except BaseException:
            self.close(caller, account)
            raise
        self._release(account)

    async def open(
        self,
        caller: "Caller",
        budget: generation_pb2.Budget,
        model: str,
        *,
        input_tokens: int,
        output_tokens: int,
        embeds: bool = False,
    ) -> str:
        """The id of a new account, empty where none is needed; raises as `admit`. The budget bears it.

        Where `model` is empty, a model will be chosen: one that embeds, or one that writes.
        """
        budget.ClearField("account_id")
        self._rules.budget.fill(budget)
        limits, caps = self._limits(caller), _caps(budget)
        if not limits and caps == _NO_CAPS:
            return ""
        tokens = input_tokens + output_tokens
        if caps.tokens is not None:
            tokens = min(tokens, caps.tokens)
        cost = await self._dearest(caller, model, input_tokens, output_tokens, embeds=embeds)
        if caps.cost_micro_usd is not None:
            cost = min(cost, caps.cost_micro_usd)
        amount = Amount(tokens=tokens, cost_micro_usd=cost)
        try:
            if self._accounts is None:
                raise AccountsUnavailableError("REDIS_URL is not set")
            account, standings = await self._accounts.open(caller.call.tenant, limits, amount, caps)
        except RefusedError as error:
            raise _exhausted(caller, error.standing, amount) from None
        except AccountsUnavailableError:
            self._admit_alone(caller, limits, amount)
            return ""
        tell_limits(caller.call, standings)
        budget.account_id = account
        return account

    def close(self, caller: "Caller", account: str) -> None:
        """Ends an account of this process; nothing for an empty id."""
        if account and self._accounts is not None:
            self._accounts.close(caller.call.tenant, account)

    def _release(self, account: str) -> None:
        """Leaves an account to the orchestrator."""
        if account and self._accounts is not None:
            self._accounts.release(account)

    def _limits(self, caller: "Caller") -> tuple[Limit, ...]:
        today = datetime.now(UTC)
        key, rules = caller.key, self._rules
        return _limits_of(
            key.id,
            key.limits.over(rules.key_defaults),
            key.tenant_limits.over(rules.tenant_defaults),
            today.strftime("%Y-%m-%d"),
        )

    async def _dearest(
        self, caller: "Caller", name: str, input_tokens: int, output_tokens: int, *, embeds: bool
    ) -> int:
        """What the request costs with the model it names, else with the dearest that the key may use."""
        listing = await self._models.listing()
        named = await self._models.find(name) if name else None
        models = [named] if named is not None else listing.models
        permitted = _find_permitted(caller.key.permitted_models(), listing)
        costs = (
            _scaled_cost(model, input_tokens, output_tokens)
            for model in models
            if named is not None
            or (
                model.available
                and (EMBEDDINGS in model.capabilities) is embeds
                and (permitted is None or model.id in permitted)
            )
        )
        return -(-max(costs, default=0) // 1_000_000)

    def _admit_alone(self, caller: "Caller", limits: Sequence[Limit], amount: Amount) -> None:
        for limit in limits:
            if self._rules.without_redis.get(limit.name, Absence.CLOSED) is Absence.CLOSED:
                raise Unavailable(
                    f"the limit {limit.name} cannot be checked now: Redis does not answer, try again soon",
                    reason="QUOTA_UNAVAILABLE",
                    metadata={"limit": limit.name},
                    retry_after_s=1.0,
                )
        refused = self._buckets.take(caller.call.tenant, limits, amount)
        if refused is not None:
            raise _exhausted(caller, refused, amount)


_NO_CAPS = Caps()


def _scaled_cost(model: router_pb2.Model, input_tokens: int, output_tokens: int) -> int:
    """Millionths of micro-USD, by the prices of the input's length."""
    prices: router_pb2.Model | price_pb2.LongerPrice = model
    for longer in model.longer_prices:
        if input_tokens > longer.above_input_tokens:
            prices = longer
    return prices.input_micro_usd_per_mtok * input_tokens + prices.output_micro_usd_per_mtok * output_tokens


def _find_permitted(names: Sequence[str] | None, listing: Listing) -> set[str] | None:
    """The ids of the models that serve under these names; None for any."""
    if names is None:
        return None
    now_s = time.time()
    return {model.id for name in names if (model := listing.find(name, now_s)) is not None}


@lru_cache(maxsize=4096)
def _limits_of(key_id: str, key: Limits, tenant: Limits, today: str) -> tuple[Limit, ...]:
    windows = {"minute": ("", 60), "day": (today, DAY_S), "month": (today[:7], MONTH_S), "": ("", 0)}
    found: list[Limit] = []
    for subject, limits in ((f"key/{key_id}", key), ("tenant", tenant)):
        for name, (kind, span) in _KINDS.items():
            most = getattr(limits, name)
            if most is not None:
                window, window_s = windows[span]
                found.append(
                    Limit(name=name, subject=subject, kind=kind, most=most, window=window, window_s=window_s)
                )
    return tuple(found)


def _caps(budget: generation_pb2.Budget) -> Caps:
    return Caps(
        tokens=budget.max_tokens if budget.HasField("max_tokens") else None,
        cost_micro_usd=budget.max_cost_micro_usd if budget.HasField("max_cost_micro_usd") else None,
        model_calls=budget.max_model_calls if budget.HasField("max_model_calls") else None,
    )


def _exhausted(caller: "Caller", standing: Standing | None, amount: Amount) -> ResourceExhausted:
    assert standing is not None, "an account is opened within its own caps"  # noqa: S101
    limit = standing.limit
    owner = "this key" if limit.subject.startswith("key/") else f"the tenant {caller.call.tenant}"
    tell_limits(caller.call, [standing])
    wanted = {Kind.TOKENS: amount.tokens, Kind.COST: amount.cost_micro_usd}.get(limit.kind, 1)
    reset_s: float | None = standing.resets_in_s(datetime.now(UTC))
    if wanted > limit.most:
        # However long one waits, this is more than the limit ever allows.
        reset_s = None
        remedy = f"this request may need {wanted:,}: ask for less, or have the limit raised"
    else:
        remedy = (
            f"{standing.used:,} are used or reserved: try again in {math.ceil(reset_s or 0)} s, "
            "ask for less, or have the limit raised"
        )
    return ResourceExhausted(
        f"{owner} may use {limit.most:,} {limit.name}, and {remedy}",
        reason="QUOTA_EXHAUSTED",
        metadata={"limit": limit.name, "most": str(limit.most), "used": str(standing.used)},
        quota_violations=[(f"{limit.subject}/{limit.name}", f"at most {limit.most}")],
        retry_after_s=reset_s,
    )
