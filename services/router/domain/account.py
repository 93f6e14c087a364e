"""Draws from a request's account, one for every attempt, so that all hops share its limits and caps."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Protocol

from quartet.common.v1.generation_pb2 import Usage
from services.kit.accounts.account import NOTHING, AccountsUnavailableError, Amount, RefusedError
from services.kit.call import Call
from services.kit.errors import ResourceExhausted

log = logging.getLogger(__name__)


class Accounts(Protocol):
    """Where accounts are kept; see `services.kit.accounts`."""

    async def draw(self, tenant: str, account: str, amount: Amount) -> str:
        """The id of a draw; raises RefusedError, AccountsUnavailableError."""
        ...

    def settle(self, tenant: str, account: str, draw: str, used: Amount) -> None:
        """Books what a draw came to, soon."""
        ...


class Draw:
    """What was taken for one attempt; settled once, with what the attempt used."""

    def __init__(self, accounts: Accounts, tenant: str, account: str, name: str) -> None:
        self._accounts = accounts
        self._tenant = tenant
        self._account = account
        self._name = name
        self._is_open = True

    def settle(self, usage: Usage) -> None:
        """Books the usage; only the first word counts."""
        self._end(
            Amount(tokens=usage.input_tokens + usage.output_tokens, cost_micro_usd=usage.cost_micro_usd)
        )

    def give_back(self) -> None:
        """Gives all of it back, where no attempt came of it."""
        self._end(NOTHING)

    def _end(self, used: Amount) -> None:
        if self._is_open:
            self._is_open = False
            self._accounts.settle(self._tenant, self._account, self._name, used)


class Drawing:
    """Takes from accounts; a request without one, or whose accounts are away, goes on without.

    Its budget still holds then, by the router's own count of this request.
    """

    def __init__(self, accounts: Accounts | None) -> None:
        self._accounts = accounts

    @asynccontextmanager
    async def draw(self, account: str, amount: Amount, call: Call) -> AsyncIterator[Draw | None]:
        """A draw for one attempt; what the attempt did not settle goes back.

        Raises:
            ResourceExhausted: `QUOTA_EXHAUSTED` or `BUDGET_EXHAUSTED`.
        """
        drawn = await self._take(account, amount, call)
        try:
            yield drawn
        finally:
            if drawn is not None:
                drawn.give_back()

    async def _take(self, account: str, amount: Amount, call: Call) -> Draw | None:
        if not account or self._accounts is None:
            return None
        try:
            name = await self._accounts.draw(call.tenant, account, amount)
        except RefusedError as error:
            raise _exhausted(error) from None
        except AccountsUnavailableError as error:
            log.warning("an attempt is made without a draw: %s", error)
            return None
        return Draw(self._accounts, call.tenant, account, name)


def _exhausted(error: RefusedError) -> ResourceExhausted:
    standing = error.standing
    if standing is None:
        return ResourceExhausted(
            f"the budget's {error.cap} is used up by this request's calls: raise it, or ask for less",
            reason="BUDGET_EXHAUSTED",
            metadata={"bound": error.cap},
            quota_violations=[(f"budget/{error.cap}", "used up")],
        )
    limit = standing.limit
    return ResourceExhausted(
        f"the limit of {limit.most:,} {limit.name} does not allow this attempt: {standing.used:,} are used "
        "or reserved; try again later, or ask for less",
        reason="QUOTA_EXHAUSTED",
        metadata={"limit": limit.name, "most": str(limit.most), "used": str(standing.used)},
        quota_violations=[(f"{limit.subject}/{limit.name}", f"at most {limit.most}")],
        retry_after_s=standing.resets_in_s(datetime.now(UTC)),
    )
