"""A response log's store that lives in the test, and can be down."""

import asyncio
import time
from dataclasses import dataclass, field

from services.gateway.domain.response_entries import Entry, Kind, Slot, StoreUnavailableError


@dataclass(slots=True)
class _Kept:
    entries: list[Entry]
    lapses_at: float


@dataclass(slots=True)
class FakeResponses:
    """Keeps entries as Redis does, for as long as they are to be kept."""

    is_down: bool = False
    commands: list[str] = field(default_factory=list)
    _slots: dict[Slot, _Kept] = field(default_factory=dict)
    _cursor: int = 0

    async def claim(self, slot: Slot, fingerprint: str, owner: str, lapse_s: float) -> str | None:
        kept = await self._find("claim", slot)
        if kept and kept.entries[-1].kind is not Kind.FAILED:
            return kept.entries[0].fingerprint
        entry = self._entry(Kind.CLAIMED, owner=owner, fingerprint=fingerprint)
        self._slots[slot] = _Kept([entry], time.monotonic() + lapse_s)
        return None

    async def append(
        self,
        slot: Slot,
        owner: str,
        kind: Kind,
        *,
        start: int,
        messages: tuple[bytes, ...],
        expire_s: float,
    ) -> bool:
        kept = await self._find(f"append {kind.name}", slot)
        if kept is None or kept.entries[0].owner != owner:
            return False
        if kind is Kind.CUT:
            kept.entries = [self._entry(kind, owner=owner, fingerprint=kept.entries[0].fingerprint)]
        else:
            kept.entries.append(self._entry(kind, start=start, messages=messages))
        kept.lapses_at = time.monotonic() + expire_s
        return True

    async def renew(self, slot: Slot, owner: str, expire_s: float) -> bool:
        kept = await self._find("renew", slot)
        if kept is None or kept.entries[0].owner != owner:
            return False
        kept.lapses_at = time.monotonic() + expire_s
        return True

    async def release(self, slot: Slot, owner: str) -> None:
        kept = await self._find("release", slot)
        if kept and kept.entries[0].owner == owner:
            del self._slots[slot]

    async def read(self, slot: Slot, cursor: str) -> list[Entry] | None:
        kept = await self._find("read", slot)
        if kept is None:
            return None
        return [entry for entry in kept.entries if int(entry.cursor) > int(cursor or 0)][:2]

    def remaining_s(self, slot: Slot) -> float:
        """How long an answer is still kept; 0 when it is not there."""
        kept = self._slots.get(slot)
        return max(0.0, kept.lapses_at - time.monotonic()) if kept else 0.0

    def lose(self, slot: Slot) -> None:
        """What happens when an owner's process dies, once its claim has lapsed."""
        self._slots.pop(slot, None)

    async def _find(self, command: str, slot: Slot) -> _Kept | None:
        self.commands.append(command)
        await asyncio.sleep(0)
        if self.is_down:
            raise StoreUnavailableError("it is down")
        kept = self._slots.get(slot)
        return kept if kept and kept.lapses_at > time.monotonic() else None

    def _entry(
        self,
        kind: Kind,
        *,
        owner: str = "",
        fingerprint: str = "",
        start: int = 0,
        messages: tuple[bytes, ...] = (),
    ) -> Entry:
        self._cursor += 1
        return Entry(
            kind=kind,
            cursor=str(self._cursor),
            owner=owner,
            fingerprint=fingerprint,
            start=start,
            messages=messages,
        )
