import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

MAX_AGE_S = 0.75
"""What was revoked is refused everywhere after this time and the look-up's: together within a second."""
MAX_FOUND = 4096

T = TypeVar("T")


class Recent(Generic[T]):
    """What was found a moment ago, so that most calls need no look-up; what is unknown is never kept."""

    def __init__(
        self,
        find: Callable[[str], Awaitable[T | None]],
        *,
        max_age_s: float = MAX_AGE_S,
        max_found: int = MAX_FOUND,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        self._max_age_s = max_age_s
        self._max_found = max_found
        self._clock = clock
        self._found: OrderedDict[str, tuple[float, T]] = OrderedDict()

    async def find(self, name: str) -> T | None:
        """What has that id, as it is, or was at most `max_age_s` ago."""
        return self.held(name) or await self.look_up(name)

    def held(self, name: str) -> T | None:
        """What had that id at most `max_age_s` ago, if that is known."""
        held = self._found.get(name)
        return held[1] if held is not None and self._clock() - held[0] < self._max_age_s else None

    async def look_up(self, name: str) -> T | None:
        """What has that id now."""
        asked = self._clock()
        found = await self._find(name)
        if found is None:
            self._found.pop(name, None)
            return None
        self._found[name] = (asked, found)
        self._found.move_to_end(name)
        if len(self._found) > self._max_found:
            self._found.popitem(last=False)
        return found
