"""What the router's domain needs from the outside world."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from quartet.common.v1.generation_pb2 import Completion, Delta
from quartet.router.v1.router_pb2 import PolicyComparison
from services.kit.call import Call
from services.router.domain.adaptation import ModelRequest
from services.router.domain.catalogue import Limits, Model
from services.router.domain.ledger import UNKNOWN_PURPOSE, Entry, Purpose


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the request and begins to answer."""


ProviderEvent = Accepted | Delta | Completion


class ModelProvider(Protocol):
    """Makes one call to a model; never retries.

    Failures are raised with a reason of `domain.failures`, so that the caller knows what may be tried next.
    The completion's usage holds the provider's counts; a stream's completion comes last and has no message.
    """

    async def generate(self, request: ModelRequest, call: Call) -> Completion: ...

    def stream(self, request: ModelRequest, call: Call) -> AsyncGenerator[ProviderEvent]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """Packed little-endian float32, `4 * dimension` bytes for each text, and the tokens read for them."""

    packed: bytes
    dimension: int
    input_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Texts for one call to an embedding model; `dimension` 0 means the model's own."""

    model: Model
    texts: Sequence[str]
    dimension: int
    purpose: Purpose = UNKNOWN_PURPOSE


class EmbeddingProvider(Protocol):
    """Makes one call to an embedding model; never retries, and fails as `ModelProvider` does."""

    async def embed(self, batch: Batch, call: Call) -> Vectors: ...


class Ledger(Protocol):
    """Keeps an entry for every call to a model."""

    def record(self, entry: Entry) -> None:
        """Takes an entry to be written soon; costs the call microseconds and never fails."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a request with an idempotency key; `answer` is None while it is being made."""

    fingerprint: str
    answer: bytes | None


class AnswerStore(Protocol):
    """Keeps answers by tenant and idempotency key; raises StoreUnavailableError when it cannot be reached."""

    async def claim(self, tenant: str, key: str, fingerprint: str, owner: str) -> Record | None:
        """Claims the key for an owner, for a few seconds; returns what is there instead when it is taken."""
        ...

    async def renew(self, tenant: str, key: str, owner: str) -> None:
        """Prolongs a claim that its owner still holds."""
        ...

    async def keep(self, tenant: str, key: str, fingerprint: str, answer: bytes) -> None:
        """Keeps an answer for a day, in place of the claim."""
        ...

    async def release(self, tenant: str, key: str, owner: str) -> None:
        """Gives a claim up, so that the request may be tried again."""
        ...


class TenantCache(Protocol):
    """Keeps what tenants may use again, for a while.

    Raises StoreUnavailableError when it cannot be reached.
    """

    async def get(self, tenant: str, name: str) -> bytes | None:
        """What is kept under a name; None when there is nothing."""
        ...

    async def put(self, tenant: str, name: str, data: bytes, *, ttl_s: int) -> None:
        """Keeps it in place of what was there."""
        ...


class VectorStore(Protocol):
    """Keeps vectors for a while; raises StoreUnavailableError when it cannot be reached."""

    async def find(self, tenant: str, names: Sequence[str]) -> Sequence[bytes | None]:
        """What is kept under each name, in their order; None where nothing is."""
        ...

    async def keep(
        self, tenant: str, items: Mapping[str, bytes], *, ttl_s: int, max_tenant_bytes: int
    ) -> None:
        """Keeps items; where the tenant's take more than it may have, the oldest go."""
        ...


class LimitStore(Protocol):
    """Counts what all routers do with a deployment."""

    async def take(self, deployment: str, limits: Limits, lease: str, tokens: int, lease_s: float) -> float:
        """Takes a request, tokens and, for `lease_s` at most, a place.

        Returns the seconds to wait where the limits are reached and nothing was taken. Raises
        StoreUnavailableError when it cannot be reached.
        """
        ...

    def give_back(self, deployment: str, limits: Limits, lease: str, tokens: int) -> None:
        """Gives the place back, and tokens; their number is negative where more were used. Never fails."""
        ...


class StoreUnavailableError(Exception):
    """What was asked for cannot be reached now."""


class Outcomes(Protocol):
    """What people said of answers, and what policies chose; raises Unavailable when it cannot be reached."""

    async def keep(self, tenant: str, trace_id: str, score: float, comment: str) -> None:
        """Keeps a word on an answer in place of an earlier one; raises NotFound for an unknown trace."""
        ...

    async def compare(self, tenant: str, start: datetime, end: datetime) -> list[PolicyComparison]:
        """A row per route with a shadow policy."""
        ...


class TenantData(Protocol):
    """What the router keeps of tenants."""

    async def delete(self, tenant: str) -> int:
        """Removes it all and gives the number of rows; raises Unavailable, and may then be repeated."""
        ...
