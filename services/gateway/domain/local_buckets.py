import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from services.kit.accounts.account import Amount, Kind, Limit, Standing

MAX_BUCKETS = 10_000


class LocalBuckets:
    """Counts limits in this process alone, while the shared counters cannot be reached.

    Windows begin at their first use. Places are not counted: nobody would give them back when Redis returns.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str, str], tuple[float, int]] = OrderedDict()

    def take(self, tenant: str, limits: Sequence[Limit], amount: Amount) -> Standing | None:
        """Counts a request; the limit that does not allow it instead, and then nothing is counted."""
        now = self._clock()
        wanted = {Kind.REQUESTS: 1, Kind.TOKENS: amount.tokens, Kind.COST: amount.cost_micro_usd}
        after: dict[tuple[str, str, str], tuple[float, int]] = {}
        for limit in limits:
            if limit.kind is Kind.PLACES:
                if limit.most == 0:
                    return Standing(limit=limit, used=0, reset_s=0)
                continue
            name = (tenant, limit.subject, limit.name)
            ends, used = self._buckets.get(name, (now + limit.window_s, 0))
            if now >= ends:
                ends, used = now + limit.window_s, 0
            if used + wanted[limit.kind] > limit.most:
                return Standing(limit=limit, used=used, reset_s=ends - now)
            after[name] = (ends, used + wanted[limit.kind])
        for name, bucket in after.items():
            self._buckets[name] = bucket
            self._buckets.move_to_end(name)
        while len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return None
