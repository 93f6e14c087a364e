"""Ends calls that are under way when the credential they came with ends."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from services.gateway.domain.keys import ApiKey
from services.kit.errors import QuartetError, Unauthenticated

if TYPE_CHECKING:
    from services.gateway.domain.admission import Caller
    from services.gateway.ports import Keys

SWEEP_S = 0.5
"""Between two looks at the credentials of the calls under way: with the look-up's time, under a second."""

log = logging.getLogger(__name__)


class Vigil:
    """The calls under way in this process.

    However many they are, a sweep is one question about their keys and one about their tenants; without any
    call it is none.

    The end of a JWT, which its issuer makes short, does not end a call that it began; its tenant's end does.
    """

    def __init__(self, keys: "Keys") -> None:
        self._keys = keys
        self._callers: dict[int, Caller] = {}

    @contextmanager
    def hold(self, caller: "Caller") -> Iterator[None]:
        """Watches over a call meanwhile: at the end of its credential it fails with Unauthenticated."""
        self._callers[id(caller)] = caller
        try:
            yield
        finally:
            del self._callers[id(caller)]

    async def watch(self) -> None:
        """Sweeps again and again, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except QuartetError as error:
                log.warning(
                    "credentials of calls under way cannot be checked", extra={"cause": error.message}
                )

    async def sweep(self) -> None:
        """Ends the calls whose credential has ended; raises as the store does, and then ends none."""
        callers = list(self._callers.values())
        now = datetime.now(UTC)
        keys = {caller.key.id for caller in callers if isinstance(caller.key, ApiKey)}
        tenants = {caller.key.tenant for caller in callers if not isinstance(caller.key, ApiKey)}
        live_keys = await self._keys.live_keys(sorted(keys)) if keys else set()
        live_tenants = await self._keys.live_tenants(sorted(tenants)) if tenants else set()
        for caller in callers:
            if isinstance(caller.key, ApiKey):
                is_live = caller.key.id in live_keys and caller.key.is_live(now)
            else:
                is_live = caller.key.tenant in live_tenants
            if not is_live and id(caller) in self._callers and caller.call.interrupt is not None:
                caller.call.interrupt(_ended())


def _ended() -> Unauthenticated:
    return Unauthenticated(
        "the credential that this call came with was revoked or has expired: call again with another one",
        reason="CREDENTIAL_ENDED",
    )
