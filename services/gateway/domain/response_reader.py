"""How an answer is read from the log, and what can be wrong with asking for it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quartet.common.v1 import error_pb2
from services.gateway.domain.response_entries import Kind, Slot
from services.kit.errors import AlreadyExists, FailedPrecondition, NotFound, OutOfRange, from_proto

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.gateway.domain.response_entries import Entry

KEEP_S = 24 * 60 * 60.0
"""How long an answer is kept for the next request with its key."""
KEEP_STREAM_S = 5 * 60.0
"""How long a stream is kept for its own client alone: one that failed, or whose key we named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request for an answer that is kept.

    Attributes:
        rpc: What was called, for people.
        fingerprint: Equal for requests that ask the same.
        keep_s: How long the answer is kept.
        first: The number of the first message wanted; from 1 on nothing is made anew. Message 0 always comes.
    """

    slot: Slot
    rpc: str
    fingerprint: str
    keep_s: float = KEEP_S
    first: int = 0

    @property
    def run_key(self) -> str:
        """Names, for the orchestrator, the run that answers this: another request has another one."""
        text = f"{self.slot.key}\n{self.fingerprint}"
        return f"answer/{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()}"

    def check(self, fingerprint: str) -> None:
        """Raises AlreadyExists when the key belongs to a request that asks for something else."""
        if fingerprint != self.fingerprint:
            raise AlreadyExists(
                "this idempotency key was used for a different request: use another key",
                reason="IDEMPOTENCY_KEY_REUSED",
            )


class OwnerLostError(Exception):
    """Who made the answer is gone without an end."""


class Reader:
    """Reads an answer from the entries of its log.

    Attributes:
        cursor: Where to read on.
        is_done: True behind the answer's end.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._owner = ""
        self._number = 0
        self.cursor = ""
        self.is_done = False

    def take(self, entries: "Sequence[Entry] | None") -> Iterator[bytes]:
        """The messages of more entries, as far as they are wanted; None means that the log is empty.

        Raises:
            OwnerLostError: No end will come.
            QuartetError: The error that ended the answer, or why it cannot be read.
        """
        if entries is None:
            if self._ask.first and not self._owner:
                raise _no_stream()
            raise OwnerLostError
        for entry in entries:
            self.cursor = entry.cursor
            if entry.owner:
                self._meet(entry)
            if entry.kind is Kind.FAILED:
                raise from_proto(error_pb2.Error.FromString(entry.messages[0]))
            if entry.kind is Kind.CUT:
                raise _not_kept()
            # What the store took though its writer was told otherwise is there twice.
            for message in entry.messages[max(0, self._number - entry.start) :]:
                if self._number == 0 or self._number >= self._ask.first:
                    yield message
                self._number += 1
            if entry.kind is Kind.DONE:
                self._end()

    def _meet(self, entry: "Entry") -> None:
        if self._owner not in ("", entry.owner):
            raise OwnerLostError
        self._owner = entry.owner
        self._ask.check(entry.fingerprint)

    def _end(self) -> None:
        if self._ask.first >= self._number:
            raise _past_the_end(self._ask.first, self._number - 1)
        self.is_done = True


def _no_stream() -> NotFound:
    message = (
        "no stream of this idempotency key is kept any more: ask anew, without `from_event_number`; "
        f"streams are kept for at least {KEEP_STREAM_S / 60:.0f} minutes after their end"
    )
    return NotFound(message, reason="STREAM_NOT_KEPT")


def _past_the_end(first: int, last: int) -> OutOfRange:
    return OutOfRange(
        f"from_event_number: the stream ended with event {last}, so that there is no event {first}: "
        f"name one up to {last}",
        reason="STREAM_ENDED_BEFORE",
        metadata={"last_event_number": str(last)},
        field_violations=[("from_event_number", f"at most {last}")],
    )


def _not_kept() -> FailedPrecondition:
    return FailedPrecondition(
        "the answer of this idempotency key was made, but outgrew what is kept, so that only its first "
        "client could read it: ask again with another key",
        reason="ANSWER_TOO_LONG_TO_KEEP",
    )
