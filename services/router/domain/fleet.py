"""The deployments of all models: which can be called, which is to be, and how they fare."""

import random
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from types import TracebackType

from services.kit.errors import QuartetError
from services.router.domain import failures
from services.router.domain.breaker import Breaker, BreakerPolicy, State
from services.router.domain.budget import Spending
from services.router.domain.catalogue import Balance, Model, Site
from services.router.domain.latency import Latency
from services.router.domain.limits import Gate, Lease

NoteChange = Callable[[Model, str], None]
"""Is told of a deployment's new state."""


class Deployment:
    """A model at one provider.

    Attributes:
        model: As it is called there.
        first_word: Of streams: how long its first word takes.
        whole: Of whole answers: how long they take.
        calls: Under way now.
    """

    __slots__ = (
        "breaker",
        "calls",
        "clock",
        "first_word",
        "gate",
        "min_timeout_s",
        "model",
        "site",
        "whole",
    )

    def __init__(
        self,
        model: Model,
        site: Site,
        policy: BreakerPolicy,
        gate: Gate,
        clock: Callable[[], float],
        note: NoteChange,
    ) -> None:
        self.model = model = model.at(site)
        self.site = site
        self.gate = gate
        self.clock = clock
        self.min_timeout_s = policy.min_timeout_s
        self.breaker = Breaker(policy, clock, lambda state: note(model, state))
        self.first_word = Latency(clock)
        self.whole = Latency(clock)
        self.calls = 0

    @property
    def name(self) -> str:
        """Unique among deployments."""
        return f"{self.model.provider}/{self.model.id}"

    def begin(self) -> "Trial":
        """A call to it; to be entered at once."""
        return Trial(self)

    def why_resting(self) -> str:
        """Why it cannot be called now; empty when it can."""
        throttled_s = self.breaker.throttled_s()
        rest_s = self.breaker.rest_s()
        if not rest_s:
            return ""
        if throttled_s >= rest_s:
            return f"its provider takes no more requests for {_seconds(rest_s)}"
        if self.breaker.state is State.HALF_OPEN:
            return "it failed, and is being tried again just now"
        return f"it failed, and is cooling for {_seconds(rest_s)}"


class Trial:
    """One call to a deployment; when it is left, the breaker learns how it went."""

    __slots__ = ("_begun", "_deployment", "_generation", "_lease", "_used_tokens")

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._generation = deployment.breaker.begin()
        self._begun = deployment.clock()
        self._lease: Lease | None = None
        self._used_tokens: int | None = None
        deployment.calls += 1

    def __enter__(self) -> "Trial":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deployment.calls -= 1
        if self._lease is not None:
            self._deployment.gate.leave(self._lease, self._used_tokens)
        breaker = self._deployment.breaker
        if error is None:
            breaker.succeed(self._generation)
        elif isinstance(error, QuartetError):
            self._judge(error, breaker)
        else:
            breaker.abandon(self._generation)

    async def admit(self, tokens: int, spending: Spending, timeout_s: float) -> None:
        """Counts the call against its deployment's limits.

        Raises RATE_LIMITED when they are reached: the call, then, does not count as spent.
        """
        deployment = self._deployment
        if (limits := deployment.site.limits) is None:
            return
        entered = await deployment.gate.enter(deployment.name, limits, tokens, timeout_s)
        if isinstance(entered, float):
            spending.take_back()
            raise failures.limited(deployment.model.provider, deployment.model.id, entered)
        self._lease = entered

    def note_usage(self, tokens: int) -> None:
        """Tells how many tokens the call took, of those it was admitted with."""
        self._used_tokens = tokens

    def note_first_word(self) -> None:
        """Tells that a stream has begun to answer: the provider is well."""
        deployment = self._deployment
        deployment.first_word.note(deployment.clock() - self._begun)
        if deployment.breaker.state is not State.CLOSED:
            deployment.breaker.succeed(self._generation)

    def note_whole(self) -> None:
        """Tells that a whole answer has come."""
        self._deployment.whole.note(self._deployment.clock() - self._begun)

    def _judge(self, failure: QuartetError, breaker: Breaker) -> None:
        if failures.is_fault(failure) or self._has_timed_out(failure):
            breaker.fail(self._generation)
        elif failure.reason in (failures.REFUSED, failures.TOO_LARGE):
            breaker.succeed(self._generation)
        else:
            breaker.abandon(self._generation)
        if failures.may_retry(failure) and failure.retry_after_s:
            breaker.throttle(failure.retry_after_s)

    def _has_timed_out(self, failure: QuartetError) -> bool:
        deployment = self._deployment
        lasted_s = deployment.clock() - self._begun
        return failure.reason == failures.TIMEOUT and lasted_s >= deployment.min_timeout_s


class Fleet:
    """Every deployment that is configured, by its model.

    Args:
        providers: Names of those that can be called; deployments elsewhere are left out.
        gate: Holds deployments to their limits.
        draw: A number from 0 to 1, below 1.
    """

    def __init__(
        self,
        models: Iterable[Model],
        providers: Collection[str],
        policy: BreakerPolicy | None = None,
        *,
        gate: Gate | None = None,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
        note: NoteChange | None = None,
    ) -> None:
        policy, gate = policy or BreakerPolicy(), gate or Gate(clock=clock)
        self._draw = draw
        self._deployments = {
            model.id: tuple(
                Deployment(model, site, policy, gate, clock, note or _ignore)
                for site in model.all_sites()
                if site.provider in providers
            )
            for model in models
        }

    def of(self, model: Model) -> Sequence[Deployment]:
        """The deployments of a model."""
        return self._deployments[model.id]

    def throttle(self, model_id: str, provider: str, rest_s: float) -> None:
        """Tells that a provider has nothing left for a model for a while."""
        for deployment in self._deployments.get(model_id, ()):
            if deployment.model.provider == provider:
                deployment.breaker.throttle(rest_s)

    def why_resting(self, model: Model) -> str:
        """Why no deployment of a model can be called now; empty when one can."""
        resting = self.of(model)
        for each in resting:
            if not each.breaker.rest_s():
                return ""
        return min(resting, key=_rest_s).why_resting() if resting else ""

    def rest_s(self, model: Model) -> float:
        """Seconds until one of a model's deployments can be called."""
        return min(map(_rest_s, self.of(model)), default=0.0)

    def choose(
        self,
        model: Model,
        balance: Balance | None = None,
        *,
        avoid: Collection[Deployment] = (),
        site: str = "",
    ) -> Deployment | None:
        """The deployment that the next call goes to, at a site if it can; None when none can be called."""
        ready = [each for each in self.of(model) if each not in avoid and not each.breaker.rest_s()]
        ready = [each for each in ready if each.site.provider == site] or ready
        if len(ready) < 2:
            return ready[0] if ready else None
        first = self._pick(ready)
        if (balance or model.balance) is Balance.WEIGHTED:
            return first
        # The power of two choices (Mitzenmacher, 2001), by the load that Finagle's peak EWMA balancer weighs.
        second = self._pick([each for each in ready if each is not first])
        return min(first, second, key=_load)

    def _pick(self, ready: Sequence[Deployment]) -> Deployment:
        place = self._draw() * sum(each.site.weight for each in ready)
        for deployment in ready:
            place -= deployment.site.weight
            if place < 0:
                return deployment
        return ready[-1]


def _ignore(model: Model, state: str) -> None:
    """Where nobody wants to know."""


def _load(deployment: Deployment) -> float:
    return (deployment.first_word.average_s() + deployment.whole.average_s()) * (deployment.calls + 1)


def _rest_s(deployment: Deployment) -> float:
    return deployment.breaker.rest_s()


def _seconds(duration_s: float) -> str:
    return f"{max(1, round(duration_s))} s"
