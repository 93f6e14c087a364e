import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from services.gateway.domain.keys import ApiKey

if TYPE_CHECKING:
    from services.gateway.ports import Keys

MAX_AGE_S = 0.75
"""A revoked key is refused everywhere after this time and the look-up's: together within a second."""
MAX_KEYS = 4096


class Keyring:
    """Keys found a moment ago, so that most calls need no look-up; unknown ones are never kept."""

    def __init__(
        self,
        keys: "Keys",
        *,
        max_age_s: float = MAX_AGE_S,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._max_age_s = max_age_s
        self._max_keys = max_keys
        self._clock = clock
        self._found: OrderedDict[str, tuple[float, ApiKey]] = OrderedDict()

    async def find(self, key_id: str) -> ApiKey | None:
        """The key as it is, or was at most `max_age_s` ago."""
        asked = self._clock()
        held = self._found.get(key_id)
        if held is not None and asked - held[0] < self._max_age_s:
            return held[1]
        key = await self._keys.find(key_id)
        if key is None:
            self._found.pop(key_id, None)
            return None
        self._found[key_id] = (asked, key)
        self._found.move_to_end(key_id)
        if len(self._found) > self._max_keys:
            self._found.popitem(last=False)
        return key
