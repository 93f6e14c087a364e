"""A mixed load of the suite: all kinds of request, in a closed loop or at a pace."""

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import aiohttp

from tests.e2e.clients import TIMEOUT_S, Client

BUSY = {
    "503 OVERLOADED",
    "529 OVERLOADED",
    "503 QUOTA_UNAVAILABLE",
    "529 QUOTA_UNAVAILABLE",
    "UNAVAILABLE OVERLOADED",
    "503 RESPONSE_LOG_UNAVAILABLE",
    "200 error RESPONSE_LOG_UNAVAILABLE",
    "200 error ANSWER_INTERRUPTED",
}
"""What a client may hear from a machine with more to do than it can."""
LATENCIES = 20_000
"""So many are kept of a kind, the newest."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request: how often it comes, beside the others' weights, and what may come of it."""

    name: str
    weight: float
    act: Callable[["Client"], Awaitable[str]]
    right: frozenset[str] = frozenset(("200",))


@dataclass(slots=True)
class Tally:
    """What came of the requests."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: dict[str, deque[float]] = field(default_factory=dict)
    held_back: int = 0
    most_at_once: int = 0

    @property
    def done(self) -> int:
        return sum(self.outcomes.values())

    @property
    def busy(self) -> int:
        return sum(count for (_, outcome), count in self.outcomes.items() if outcome in BUSY)

    def note(self, kind: Kind, outcome: str, seconds: float) -> None:
        self.outcomes[kind.name, outcome] += 1
        self.seconds.setdefault(kind.name, deque(maxlen=LATENCIES)).append(seconds)

    def wrong(self, kinds: Iterable["Kind"]) -> dict[tuple[str, str], int]:
        """The outcomes that no client should have seen."""
        right = {kind.name: kind.right | BUSY for kind in kinds}
        return {pair: count for pair, count in self.outcomes.items() if pair[1] not in right[pair[0]]}


def _outcomes(*names: str) -> frozenset[str]:
    return frozenset(("200", *names))


KINDS: tuple[Kind, ...] = (
    Kind("chat", 16, Client.ask_chat),
    Kind("chat, stream", 16, lambda client: client.ask_chat(stream=True)),
    Kind("messages", 5, Client.ask_anthropic),
    Kind("messages, stream", 6, lambda client: client.ask_anthropic(stream=True)),
    Kind("responses", 4, Client.ask_responses),
    Kind("responses, stream", 4, lambda client: client.ask_responses(stream=True)),
    Kind("gRPC", 4, Client.ask_native),
    Kind("gRPC, stream", 4, lambda client: client.ask_native(stream=True)),
    Kind("tools, two turns", 4, Client.ask_tools),
    Kind("embeddings", 4, Client.embed),
    Kind("cached", 8, Client.ask_again),
    Kind("four at once", 1, Client.ask_at_once),
    Kind("idempotent", 3, Client.ask_idempotent),
    # Where the pieces came together, the third event was the last.
    Kind("broken and resumed", 2, Client.resume, _outcomes("400 STREAM_ENDED_BEFORE")),
    Kind("client leaves", 8, Client.leave, _outcomes("left")),
    Kind(
        "provider fault",
        2,
        Client.meet_fault,
        _outcomes(
            "200 error PROVIDER_INTERRUPTED",
            "200 error PROVIDER_UNAVAILABLE",
            "200 error PROVIDER_BROKEN",
            "200 error DEADLINE_EXCEEDED",
            "429 PROVIDER_RATE_LIMITED",
            "500 PROVIDER_BROKEN",
            "503 PROVIDER_INTERRUPTED",
            "503 PROVIDER_UNAVAILABLE",
            "504 DEADLINE_EXCEEDED",
        ),
    ),
    Kind(
        "model of the faults",
        4,
        Client.ask_frail,
        _outcomes("429 PROVIDER_RATE_LIMITED", "503 PROVIDER_UNAVAILABLE"),
    ),
    Kind("falls back", 1, Client.fall_back),
    Kind(
        "refused",
        6,
        Client.be_refused,
        _outcomes(
            "401 INVALID_API_KEY",
            "400 TOKEN_LIMIT_EXCEEDED",
            "400 INVALID_REQUEST",
            "404 MODEL_NOT_FOUND",
            "429 QUOTA_EXHAUSTED",
        ),
    ),
    Kind("rag", 3, Client.ask_documents),
    Kind("agent", 0.5, Client.ask_agent),
    Kind("run", 0.5, Client.run),
    Kind("search", 2, Client.search),
    Kind("ingest", 0.3, Client.ingest),
    Kind("look", 2, Client.look),
)


class Load:
    """Requests of all kinds, by their weights.

    Args:
        seed: Repeats the same order of kinds.
    """

    def __init__(self, client: Client, *, seed: int = 7, kinds: tuple[Kind, ...] = KINDS) -> None:
        self._client = client
        self._chance = random.Random(seed)
        self._kinds = kinds
        self._weights = [kind.weight for kind in kinds]
        self._under_way: set[asyncio.Task[None]] = set()
        self.tally = Tally()

    @property
    def at_once(self) -> int:
        return len(self._under_way)

    async def send(self, kind: Kind) -> None:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                outcome = await kind.act(self._client)
        except (aiohttp.ClientError, TimeoutError) as error:
            outcome = f"failed: {type(error).__name__}"
        self.tally.note(kind, outcome, time.monotonic() - begun)

    async def saturate(self, seconds: float, workers: int) -> float:
        """Requests a second where each of the workers sends its next one as soon as the last is answered."""
        self.tally = Tally()
        end = time.monotonic() + seconds

        async def work() -> None:
            while time.monotonic() < end:
                await self.send(self._any())

        begun = time.monotonic()
        await asyncio.gather(*(work() for _ in range(workers)))
        return self.tally.done / (time.monotonic() - begun)

    async def pace(self, seconds: float, rate: float, *, at_once: int) -> None:
        """Sends `rate` requests a second at random moments, however long they take.

        One that would be more than `at_once` under way is left out and counted.
        """
        self.tally = Tally()
        due = begun = time.monotonic()
        while (due := due + self._chance.expovariate(rate)) < begun + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(self._under_way) >= at_once:
                self.tally.held_back += 1
                continue
            task = asyncio.create_task(self.send(self._any()))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            self.tally.most_at_once = max(self.tally.most_at_once, len(self._under_way))
        await asyncio.gather(*self._under_way)

    def _any(self) -> Kind:
        return self._chance.choices(self._kinds, self._weights)[0]
