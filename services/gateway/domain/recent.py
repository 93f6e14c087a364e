import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

MAX_AGE_S = 0.75
"""What was revoked is refused everywhere after this time and the look-up's: together within a second."""
FRESH_SHARE = 2 / 3
"""Of the greatest age: who asks first after it looks up, while all others are still served."""
MAX_FOUND = 4096

T = TypeVar("T")


class _Found(Generic[T]):
    __slots__ = ("asked_s", "is_renewed", "value")

    def __init__(self, asked_s: float, value: T) -> None:
        self.asked_s = asked_s
        self.value = value
        self.is_renewed = False


class Recent(Generic[T]):
    """What was found a moment ago, so that most calls need no look-up; what is unknown is never kept.

    However many ask for the same at once, one look-up renews it: its age would else make all of them look up.
    """

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
        self._found: OrderedDict[str, _Found[T]] = OrderedDict()

    async def find(self, name: str) -> T | None:
        """What has that id, as it is, or was at most `max_age_s` ago."""
        return self.held(name) or await self.look_up(name)

    def held(self, name: str) -> T | None:
        """What had that id at most `max_age_s` ago, if that is known, and this caller is not to renew it."""
        held = self._found.get(name)
        if held is None:
            return None
        age_s = self._clock() - held.asked_s
        if age_s >= self._max_age_s:
            return None
        if age_s >= self._max_age_s * FRESH_SHARE and not held.is_renewed:
            held.is_renewed = True
            return None
        return held.value

    async def look_up(self, name: str) -> T | None:
        """What has that id now."""
        asked = self._clock()
        found = await self._find(name)
        if found is None:
            self._found.pop(name, None)
            return None
        self._found[name] = _Found(asked, found)
        self._found.move_to_end(name)
        if len(self._found) > self._max_found:
            self._found.popitem(last=False)
        return found
