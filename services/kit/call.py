import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import quote

from google.protobuf.message import Message

from services.kit.errors import DeadlineExceeded, QuartetError


@dataclass(slots=True, kw_only=True)
class Call:
    """What a method knows about the call it serves, and what a caller passes to a peer.

    Attributes:
        deadline: Absolute, in seconds of `time.monotonic()`.
        tenant: Whose call it is; empty when nobody was authenticated.
        key_id: The API key it came with; empty when nobody was authenticated.
        models: The only models that the key may use, by id or alias; None for any.
        metadata: Text metadata by lower-case key: of the request on the server, to be sent on a client.
        response_headers: On the server, what a method sets before its first message becomes initial metadata.
            On a client, kit fills it once the first message or the status is there.
        keepalive: On the server, a message without content that kit may send on a stream that has begun and
            then is silent, so that nothing on the way takes it for dead.
        last_words: On the server, what makes an error the last message of a stream that has begun, for
            contracts whose messages have no error field.
        interrupt: On the server, ends the method with an error from outside, wherever it is; one kept until
            it is over does nothing.
    """

    deadline: float
    tenant: str = ""
    key_id: str = ""
    models: tuple[str, ...] | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    response_headers: dict[str, str] = field(default_factory=dict)
    keepalive: Message | None = None
    last_words: Callable[[QuartetError], Message] | None = None
    interrupt: Callable[[QuartetError], None] | None = None

    @classmethod
    def root(
        cls,
        *,
        timeout_s: float,
        tenant: str = "",
        key_id: str = "",
        models: tuple[str, ...] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Self:
        """Starts a call that no other call caused: background work, the command line, tests."""
        return cls(
            deadline=time.monotonic() + timeout_s,
            tenant=tenant,
            key_id=key_id,
            models=models,
            metadata=dict(metadata or {}),
        )

    def remaining_s(self) -> float:
        """The time left; raises DeadlineExceeded when there is none."""
        remaining_s = self.deadline - time.monotonic()
        if remaining_s <= 0:
            raise DeadlineExceeded("the time given to this call is used up: allow more, or ask for less")
        return remaining_s

    def outgoing(
        self, *, timeout_s: float | None = None, metadata: Mapping[str, str] | None = None
    ) -> "Call":
        """A call to a peer on behalf of this one: same caller, no more time, only the given metadata."""
        deadline = self.deadline
        if timeout_s is not None:
            deadline = min(deadline, time.monotonic() + timeout_s)
        return Call(
            deadline=deadline,
            tenant=self.tenant,
            key_id=self.key_id,
            models=self.models,
            metadata=dict(metadata) if metadata else {},
        )

    def identified(self, *, tenant: str, key_id: str, models: tuple[str, ...] | None = None) -> "Call":
        """The same call once its caller is known; it shares the response headers."""
        return replace(self, tenant=tenant, key_id=key_id, models=models)


def header_text(value: str) -> str:
    """A value as metadata can carry it: what holds more than printable ASCII is percent-encoded."""
    return value if value.isascii() and value.isprintable() else quote(value, safe=" ")
