import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

import orjson

from services.kit.accounts.account import (
    AccountsUnavailableError,
    Amount,
    Caps,
    Kind,
    Limit,
    RefusedError,
    Standing,
)
from services.kit.accounts.commands import Commands
from services.kit.accounts.scripts import CLOSE, DRAW, OPEN, RENEW, SETTLE
from services.kit.tasks import end

TTL_S = 60.0
"""An account that nobody renews is given up after this time, and what it reserved goes back."""
TIMEOUT_S = 0.05
"""How long opening and drawing may hold a request up."""
RENEWED_AT_ONCE = 100
"""Accounts that one script renews: Redis does nothing else meanwhile."""
_OPENED, _OVER_CAP, _UNKNOWN = 1, 2, 3


class Accounts:
    """Accounts in Redis, of one process.

    Args:
        ttl_s: How long an account lives without being renewed; its owner here renews it three times as often.
        timeout_s: How long opening and drawing may take.
    """

    def __init__(self, url: str, *, ttl_s: float = TTL_S, timeout_s: float = TIMEOUT_S) -> None:
        self._commands = Commands(url, (OPEN, DRAW, SETTLE, CLOSE, RENEW))
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._held: dict[str, str] = {}
        self._renewing: asyncio.Task[None] | None = None

    async def open(
        self, tenant: str, limits: Sequence[Limit], amount: Amount, caps: Caps
    ) -> tuple[str, list[Standing]]:
        """A new account's id, and how its limits stand now; this process owns it until `close`.

        Raises:
            RefusedError: A limit does not allow it; nothing is reserved.
            AccountsUnavailableError: Redis does not answer in time.
        """
        account = secrets.token_hex(12)
        described = [
            {
                "k": _key(tenant, limit),
                "n": limit.name,
                "s": limit.subject,
                "t": limit.kind.value,
                "m": limit.most,
                "w": limit.window_s * 1000,
            }
            for limit in limits
        ]
        arguments = (
            account,
            self._ttl_ms,
            orjson.dumps(described),
            amount.tokens,
            amount.cost_micro_usd,
            _or_empty(caps.tokens),
            _or_empty(caps.cost_micro_usd),
            _or_empty(caps.model_calls),
        )
        try:
            answer = await self._run(OPEN, tenant, *arguments)
        except (AccountsUnavailableError, asyncio.CancelledError) as error:
            if getattr(error, "was_sent", True):
                # It may have been opened all the same.
                self._commands.post(CLOSE, _prefix(tenant), account, "void")
            raise
        if answer[0] != _OPENED:
            raise _refused(limits, answer)
        self.hold(tenant, account)
        found = answer[1]
        standings = [
            Standing(limit=limit, used=used, reset_s=left_ms / 1000)
            for limit, used, left_ms in zip(limits, found[::2], found[1::2], strict=True)
        ]
        return account, standings

    async def draw(self, tenant: str, account: str, amount: Amount) -> str:
        """Takes an amount out and gives the draw's id, to be settled.

        Raises:
            RefusedError: A cap of the account, or a limit that would have to give more, does not allow it.
            AccountsUnavailableError: Redis does not answer in time.
        """
        draw = secrets.token_hex(6)
        arguments = (account, draw, self._ttl_ms, amount.tokens, amount.cost_micro_usd)
        try:
            answer = await self._run(DRAW, tenant, *arguments)
        except (AccountsUnavailableError, asyncio.CancelledError) as error:
            if getattr(error, "was_sent", True):
                self.settle(tenant, account, draw, Amount())
            raise
        if answer[0] == _OVER_CAP:
            raise RefusedError(cap=answer[1].decode())
        if answer[0] == _UNKNOWN:
            raise AccountsUnavailableError("the account is closed, or was given up")
        if answer[0] != _OPENED:
            raise _refused_draw(answer)
        return draw

    def settle(self, tenant: str, account: str, draw: str, used: Amount) -> None:
        """Books what a draw came to, soon; once, whoever says it again."""
        self._commands.post(SETTLE, _prefix(tenant), account, draw, used.tokens, used.cost_micro_usd)

    def close(self, tenant: str, account: str) -> None:
        """Ends an account, soon: what was not used goes back, what is still drawn once it is settled."""
        self.release(account)
        self._commands.post(CLOSE, _prefix(tenant), account, "")

    def hold(self, tenant: str, account: str) -> None:
        """From now on this process renews the account."""
        self._held[account] = tenant
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew(), name="accounts-renewal")

    def release(self, account: str) -> None:
        """Renews it no longer: another process owns it, or it is over."""
        self._held.pop(account, None)

    async def start(self) -> None:
        """Connects, so that the first request need not wait for it; a Redis that is away is found later."""
        await self._commands.load()

    async def flush(self) -> None:
        """Waits until all that was settled and closed is booked."""
        await self._commands.flush()

    async def shut(self) -> None:
        """Books what waits, and closes the connections."""
        if self._renewing is not None:
            await end(self._renewing)
        await self._commands.close()

    @property
    def _ttl_ms(self) -> int:
        return round(self._ttl_s * 1000)

    async def _run(self, script: str, tenant: str, *arguments: Any) -> Any:
        return await self._commands.run(script, _prefix(tenant), *arguments, timeout_s=self._timeout_s)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._ttl_s / 3)
            by_tenant: dict[str, list[str]] = {}
            for account, tenant in self._held.items():
                by_tenant.setdefault(tenant, []).append(account)
            for tenant, accounts in by_tenant.items():
                for start in range(0, len(accounts), RENEWED_AT_ONCE):
                    some = accounts[start : start + RENEWED_AT_ONCE]
                    self._commands.post(RENEW, _prefix(tenant), self._ttl_ms, *some)


def _prefix(tenant: str) -> str:
    return f"quartet:{{{tenant}}}:"


def _key(tenant: str, limit: Limit) -> str:
    kind = "places" if limit.kind is Kind.PLACES else "quota"
    window = f":{limit.window}" if limit.window else ""
    return f"{_prefix(tenant)}{kind}:{limit.subject}:{limit.name}{window}"


def _refused(limits: Sequence[Limit], answer: Any) -> RefusedError:
    _, place, used, left_ms = answer
    return RefusedError(Standing(limit=limits[place - 1], used=used, reset_s=left_ms / 1000))


def _refused_draw(answer: Any) -> RefusedError:
    _, name, subject, kind, most, window_ms, used, left_ms = answer
    limit = Limit(
        name=name.decode(),
        subject=subject.decode(),
        kind=Kind(kind.decode()),
        most=most,
        window_s=window_ms // 1000,
    )
    return RefusedError(Standing(limit=limit, used=used, reset_s=left_ms / 1000))


def _or_empty(cap: int | None) -> str | int:
    return "" if cap is None else cap
