"""How much a provider lets a deployment do: counted by all routers together, or by each alone if need be."""

import itertools
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from services.router.domain.catalogue import Limits
from services.router.ports import LimitStore, StoreUnavailableError

BUSY_S = 0.1
"""The pause where all places are taken: nobody knows when one will be free."""
MARGIN_S = 5.0
"""A place is given up so long after the deadline of a call whose router was lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What a call took of its deployment's limits: a place, and as many tokens as it may need."""

    deployment: str
    limits: Limits
    tokens: int
    id: str
    is_shared: bool


class Gate:
    """Lets calls through as far as their deployments' limits go.

    Args:
        store: Counts for all routers; None where this one is alone.
        share: Of the limits, 0..1, that this router allows itself while the store is away.
    """

    def __init__(
        self,
        store: LimitStore | None = None,
        *,
        share: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._alone = _Alone(share, clock)
        self._process = secrets.token_hex(8)
        self._numbers: Iterator[int] = itertools.count(1)

    async def enter(self, deployment: str, limits: Limits, tokens: int, timeout_s: float) -> Lease | float:
        """A lease, to be given to `leave` once; or the seconds to wait when the limits are reached."""
        name = f"{self._process}-{next(self._numbers)}"
        is_shared = self._store is not None
        wait_s = 0.0
        if self._store is not None:
            try:
                wait_s = await self._store.take(deployment, limits, name, tokens, timeout_s + MARGIN_S)
            except StoreUnavailableError:
                is_shared = False
        if not is_shared:
            wait_s = self._alone.take(deployment, limits, tokens)
        if wait_s:
            return wait_s
        return Lease(deployment=deployment, limits=limits, tokens=tokens, id=name, is_shared=is_shared)

    def leave(self, lease: Lease, used_tokens: int | None) -> None:
        """Gives back what was not used; None where nobody knows."""
        spare = 0 if used_tokens is None else lease.tokens - used_tokens
        if lease.is_shared and self._store is not None:
            self._store.give_back(lease.deployment, lease.limits, lease.id, spare)
        else:
            self._alone.give_back(lease.deployment, spare)


class _Counts:
    """What is left of one deployment's limits in this process."""

    __slots__ = ("at", "calls", "requests", "tokens")

    def __init__(self, at: float, requests: float, tokens: float) -> None:
        self.at = at
        self.requests = requests
        self.tokens = tokens
        self.calls = 0


class _Alone:
    """The same arithmetic as the store's, for this process: a bucket each that is filled in a minute."""

    def __init__(self, share: float, clock: Callable[[], float]) -> None:
        self._share = share
        self._clock = clock
        self._counts: dict[str, _Counts] = {}

    def take(self, deployment: str, limits: Limits, tokens: int) -> float:
        requests_most = self._most(limits.requests_per_minute)
        tokens_most = self._most(limits.tokens_per_minute)
        now = self._clock()
        counts = self._counts.setdefault(deployment, _Counts(now, requests_most, tokens_most))
        minutes = (now - counts.at) / 60
        counts.at = now
        counts.requests = min(requests_most, counts.requests + minutes * requests_most)
        counts.tokens = min(tokens_most, counts.tokens + minutes * tokens_most)
        wait_s = 0.0
        wanted = min(tokens, tokens_most)
        if limits.requests_per_minute is not None and counts.requests < 1:
            wait_s = (1 - counts.requests) * 60 / requests_most
        if limits.tokens_per_minute is not None and counts.tokens < wanted:
            wait_s = max(wait_s, (wanted - counts.tokens) * 60 / tokens_most)
        if limits.concurrent is not None and counts.calls >= self._most(limits.concurrent):
            wait_s = max(wait_s, BUSY_S)
        if not wait_s:
            counts.requests -= 1
            counts.tokens -= wanted
            counts.calls += 1
        return wait_s

    def give_back(self, deployment: str, tokens: int) -> None:
        counts = self._counts[deployment]
        counts.calls -= 1
        counts.tokens += tokens

    def _most(self, limit: int | None) -> float:
        """This process's part: one at least."""
        return 0.0 if limit is None else max(1.0, limit * self._share)
