"""Which deployment is asked, and which next when it fails."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.kit.call import Call
from services.kit.errors import QuartetError, ResourceExhausted, Unavailable
from services.router.domain import failures
from services.router.domain.catalogue import Balance, Capability, Model
from services.router.domain.fleet import Deployment, Fleet

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How failed attempts are repeated.

    Attributes:
        max_retries: Further attempts at one model.
        base_delay_s: Longest pause before the first of them; it doubles with each.
        max_delay_s: Longest pause, also where the provider asks for more: then the next model takes over.
        random: A number from 0 to 1, for the jitter.
    """

    max_retries: int = 2
    base_delay_s: float = 0.4
    max_delay_s: float = 5.0
    random: Callable[[], float] = random.random

    def delay_s(self, retry: int, asked_s: float | None) -> float | None:
        """The pause before a retry (0 is the first); None when the provider asks for too long a one.

        Full jitter (M. Brooker, Exponential Backoff and Jitter, 2015): from nothing to the whole pause. What
        the provider asks for is waited for, and a little more, so that not all come at once.
        """
        if asked_s is not None:
            spread_s = 0.1 * asked_s * self.random()
            return asked_s + spread_s if asked_s <= self.max_delay_s else None
        return min(self.max_delay_s, self.base_delay_s * (1 << retry)) * self.random()


class RetryBudget:
    """Bounds the retries of a process to a share of its requests, so that an outage is not amplified.

    A bucket as Finagle's RetryBudget, with its defaults: a fifth of the requests, and ten a second for
    processes with little to do. Ten seconds' worth of the latter is kept at most.

    Args:
        share: Retries allowed for each request.
        min_per_s: Retries allowed each second whatever the number of requests.
    """

    KEPT_S = 10.0

    def __init__(
        self, *, share: float = 0.2, min_per_s: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._share = share
        self._min_per_s = min_per_s
        self._clock = clock
        self._most = max(1.0, min_per_s * self.KEPT_S)
        self._saved = self._most
        self._at = clock()

    def deposit(self) -> None:
        """Counts a request."""
        self._saved = min(self._most, self._saved + self._share)

    def withdraw(self) -> bool:
        """Takes a retry, if one is left."""
        now = self._clock()
        self._saved = min(self._most, self._saved + (now - self._at) * self._min_per_s)
        self._at = now
        if self._saved < 1:
            return False
        self._saved -= 1
        return True


class Retrying:
    """How this process repeats and passes on failed calls."""

    def __init__(self, fleet: Fleet, policy: RetryPolicy, budget: RetryBudget | None = None) -> None:
        self.fleet = fleet
        self.policy = policy
        self.budget = budget or RetryBudget()

    async def attempts(
        self, models: Sequence[Model], call: Call, *, balance: Balance | None = None, site: str = ""
    ) -> "Attempts":
        """The attempts of one request, its first deployment chosen.

        Args:
            models: In the order of preference; the first that can be called is asked.
            call: Bounds the pauses.
            balance: The route's, before the models' own.
            site: The provider to begin with, where the first model is deployed there; empty for any.

        Raises:
            ResourceExhausted: The providers of all want a longer pause than can be waited for.
        """
        self.budget.deposit()
        attempts = Attempts(self, models, call, balance)
        await attempts.start(site)
        return attempts


class Attempts:
    """One request's way through the deployments.

    Attributes:
        deployment: To be asked now.
        failed: How models failed, by id.
    """

    def __init__(
        self, retrying: Retrying, models: Sequence[Model], call: Call, balance: Balance | None
    ) -> None:
        self._retrying = retrying
        self._fleet = retrying.fleet
        self._models = list(models)
        self._following = list(models)
        self._call = call
        self._balance = balance
        self._tried: list[Deployment] = []
        self._reasons: set[str] = set()
        self._retries = 0
        self.failed: dict[str, str] = {}
        self.deployment: Deployment

    async def start(self, site: str) -> None:
        """Chooses the first deployment, at a site before others: where all rest, the one that rests least."""
        if self._pass_on(site):
            return
        deployments = [each for model in self._models for each in self._fleet.of(model)]
        least = min(deployments, key=lambda each: (each.breaker.throttled_s(), each.breaker.rest_s()))
        wait_s = least.breaker.throttled_s()
        if wait_s > self._retrying.policy.max_delay_s or wait_s >= self._call.remaining_s():
            raise ResourceExhausted(
                f"{least.model.id} cannot be asked: {least.why_resting()}; try again later",
                reason=failures.RATE_LIMITED,
                metadata={"provider": least.model.provider, "model": least.model.id},
                retry_after_s=wait_s,
            )
        await asyncio.sleep(wait_s)
        # What failed just now is asked once, and not again.
        self.deployment, self._retries = least, self._retrying.policy.max_retries

    async def after(self, failure: QuartetError) -> None:
        """Returns when `deployment` is to be asked, after a pause where it is the same.

        Else raises the failure.
        """
        self.note(self.deployment, failure)
        if failures.may_pass_on(failure) and (await self._retry(failure) or self._pass_on()):
            return
        raise self._sum_up(failure)

    def note(self, deployment: Deployment, failure: QuartetError) -> None:
        """Tells that a deployment failed."""
        model = deployment.model
        self.failed[model.id] = failure.message
        self._reasons.add(failure.reason)
        self._tried.append(deployment)
        log.warning(
            "model call failed",
            extra={
                "model": model.id,
                "provider": model.provider,
                "reason": failure.reason,
                "retry": self._retries,
            },
        )

    def find_second(self) -> Deployment | None:
        """Who may be asked beside `deployment`: elsewhere the same model, else the next; None for nobody.

        Counts as a retry of the process.
        """
        avoid = [*self._tried, self.deployment]
        for model in (self.deployment.model, *self._following):
            if model.can(Capability.PASSAGES_ONLY):
                continue
            second = self._fleet.choose(model, self._balance, avoid=avoid)
            if second is not None:
                return second if self._retrying.budget.withdraw() else None
        return None

    async def _retry(self, failure: QuartetError) -> bool:
        """Another deployment of the model at once, or the same after a pause, as far as the bounds allow."""
        policy, model = self._retrying.policy, self.deployment.model
        if self._retries >= policy.max_retries:
            return False
        other = self._fleet.choose(model, self._balance, avoid=self._tried)
        delay_s: float | None = 0.0
        if other is None:
            if not failures.may_retry(failure):
                return False
            delay_s = policy.delay_s(self._retries, failure.retry_after_s)
            if delay_s is None or self.deployment.breaker.rest_s() > delay_s:
                return False
        if delay_s is None or delay_s >= self._call.remaining_s() or not self._retrying.budget.withdraw():
            return False
        self._retries += 1
        await asyncio.sleep(delay_s)
        self.deployment = other or self.deployment
        return True

    def _pass_on(self, site: str = "") -> bool:
        """The next model of which a deployment can be called; the site is that of the first one only."""
        while self._following:
            model = self._following.pop(0)
            deployment = self._fleet.choose(model, self._balance, avoid=self._tried, site=site)
            site = ""
            if deployment is not None:
                self.deployment, self._retries = deployment, 0
                return True
            self.failed.setdefault(model.id, self._fleet.why_resting(model))
        return False

    def _sum_up(self, failure: QuartetError) -> QuartetError:
        """The failure itself when it speaks for all of them."""
        if len(self._reasons) == 1 or not failures.may_pass_on(failure):
            return failure
        message = "; ".join(f"{model}: {said}" for model, said in self.failed.items())
        return Unavailable(
            f"every model of the route failed: {message}",
            reason=failures.ALL_FAILED,
            metadata={"models": ",".join(self.failed)},
            retry_after_s=failure.retry_after_s,
        )
