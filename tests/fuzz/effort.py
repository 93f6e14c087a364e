"""How hard is tried: a little and always the same by default, 10,000 messages by chance with `make fuzz`."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FULL = "fuzz"
FULL_EXAMPLES = 10_000
QUICK_EXAMPLES = 50
QUICK_SHARE_OF_EDGE, FULL_SHARE_OF_EDGE = 0.15, 0.02
"""Of them, so many go over real sockets."""
EXAMPLE_TIMEOUT_S = 60.0

_COMMON: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
}
_QUICK = settings(max_examples=QUICK_EXAMPLES, derandomize=True, **_COMMON)


def register_profile() -> None:
    """Makes the profile of `make fuzz` known, before it is asked for by name."""
    settings.register_profile(FULL, max_examples=FULL_EXAMPLES, **_COMMON)


def is_full() -> bool:
    """Whether the profile of `make fuzz` is loaded."""
    return settings.get_current_profile_name() == FULL


async def attempt_all(
    strategy: st.SearchStrategy[Any],
    attempt: Callable[[Any], Coroutine[Any, Any, None]],
    *,
    over_sockets: bool = False,
) -> None:
    """Has every example attempted on this loop; hypothesis itself runs in a thread beside it.

    Raises what the simplest failing example raised.
    """
    loop = asyncio.get_running_loop()
    effort = settings() if is_full() else _QUICK
    if over_sockets:
        share = FULL_SHARE_OF_EDGE if is_full() else QUICK_SHARE_OF_EDGE
        effort = settings(effort, max_examples=round(effort.max_examples * share))

    @effort
    @given(strategy)
    def run(example: Any) -> None:
        asyncio.run_coroutine_threadsafe(attempt(example), loop).result(EXAMPLE_TIMEOUT_S)

    await asyncio.to_thread(run)
