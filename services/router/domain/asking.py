"""Asks a model for the label of a prompt, within a deadline and behind a breaker."""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable

from quartet.common.v1 import decision_pb2 as pb
from quartet.common.v1.generation_pb2 import Budget, GenerationSpec, Usage
from quartet.common.v1.message_pb2 import ROLE_USER, Message, Part
from quartet.router.v1.router_pb2 import Prompt
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.router.domain import failures
from services.router.domain.answering import Answering
from services.router.domain.breaker import Breaker
from services.router.domain.budget import Spending
from services.router.domain.caching import add_parts
from services.router.domain.catalogue import Model
from services.router.domain.checking import read_text
from services.router.domain.features import CHARS_PER_TOKEN
from services.router.domain.labelling import Labelling
from services.router.domain.ledger import CLASSIFIER
from services.router.domain.plan import Plan
from services.router.domain.routes import Route
from services.router.domain.under_way import UnderWay, wait_for

MAX_REMEMBERED = 4096
"""Labels that this process remembers: the hash of a tenant's text, and a word."""
TIME_SHARE = 0.25
"""Of the time a call has left, what the question may take: the answer needs the rest."""

log = logging.getLogger(__name__)


class Asker:
    """Gets labels from a model; what it once said of a text is remembered.

    Slow and failed answers count for the breaker, and so does one that is no label: a model that does not
    understand the question is not paid for long.

    Args:
        find_model: The model of a name that can be called now, or None.
        answering: Asks it; should not repeat what failed.
    """

    def __init__(
        self,
        labelling: Labelling,
        find_model: Callable[[str], Model | None],
        answering: Answering,
        breaker: Breaker,
    ) -> None:
        self.labelling = labelling
        self._find_model = find_model
        self._answering = answering
        self._breaker = breaker
        self._remembered: OrderedDict[str, str] = OrderedDict()
        self._under_way: UnderWay[str] = UnderWay()

    def recall(self, text: str, tenant: str) -> str:
        """What it said of the text before; empty for nothing."""
        key = self._key(text, tenant)
        label = self._remembered.get(key, "")
        if label:
            self._remembered.move_to_end(key)
        return label

    def find_model(self, prompt: Prompt) -> Model | None:
        """Whom a question about the prompt would go to now; None where none may be asked."""
        budget = prompt.budget
        if self._breaker.rest_s() or (budget.HasField("max_model_calls") and budget.max_model_calls < 2):
            return None
        return self._find_model(self.labelling.model)

    async def ask(
        self, model: Model, prompt: Prompt, text: str, route: str, call: Call
    ) -> tuple[str, Usage | None]:
        """The label of the text, empty where none was given, and what the answer took.

        Who asks the same at the same moment waits for the first one's answer, and pays nothing. `route` is
        where the prompt would go else: the question is booked on it.
        """
        timeout_s = min(self.labelling.timeout_s, TIME_SHARE * call.remaining_s())
        key = self._key(text, call.tenant)
        if promised := self._under_way.find((key,)):
            return (await wait_for(promised, timeout_s)).get(key, ""), None
        asked, plan = self._question(model, prompt, text, route)
        generation = self._breaker.begin()
        with self._under_way.promise((key,)) as promises:
            try:
                async with asyncio.timeout(timeout_s):
                    _, completion = await self._answering.answer(asked, plan, call, Spending(prompt.budget))
            except TimeoutError:
                if timeout_s < self.labelling.timeout_s:
                    # The caller's own haste, which says nothing of the model.
                    self._breaker.abandon(generation)
                    return "", None
                return self._fail(generation, f"it took longer than {timeout_s:g} s"), None
            except asyncio.CancelledError:
                self._breaker.abandon(generation)
                raise
            except QuartetError as failure:
                if failure.reason not in failures.CALLERS_OWN:
                    return self._fail(generation, failure.reason), None
                self._breaker.abandon(generation)
                return "", None
            label = self.labelling.read_label(read_text(completion.message))
            if not label:
                return self._fail(generation, "its answer is no label"), completion.usage
            self._breaker.succeed(generation)
            self._remember(key, label)
            promises[key].set_result(label)
            return label, completion.usage

    def _question(self, model: Model, prompt: Prompt, text: str, route: str) -> tuple[Prompt, Plan]:
        most = self.labelling.output_tokens
        question = self.labelling.question(text)
        asked = Prompt(
            messages=[Message(role=ROLE_USER, parts=[Part(text=question)])],
            spec=GenerationSpec(temperature=0),
            run_id=prompt.run_id,
            # What the budget says besides is in the call's spending.
            budget=Budget(account_id=prompt.budget.account_id),
        )
        bounds = Route(
            name=route,
            max_output_tokens=most,
            expected_output_tokens=most,
            candidates=(model.id,),
            reasoning_effort="none",
        )
        decision = pb.Decision(
            route=route,
            model=model.id,
            handler=pb.Handler(model=model.id),
            cache=pb.CACHE_OUTCOME_BYPASS,
            max_output_tokens=most,
        )
        return asked, Plan(
            decision=decision,
            models=(model,),
            route=bounds,
            input_tokens=-(-len(question) // CHARS_PER_TOKEN),
            overhead=CLASSIFIER,
        )

    def _key(self, text: str, tenant: str) -> str:
        digest = hashlib.blake2b(digest_size=16)
        add_parts(digest, tenant.encode(), self.labelling.excerpt(text).encode(errors="replace"))
        return digest.hexdigest()

    def _remember(self, key: str, label: str) -> None:
        self._remembered[key] = label
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _fail(self, generation: int, why: str) -> str:
        self._breaker.fail(generation)
        log.warning("no label is known of a prompt", extra={"model": self.labelling.model, "why": why})
        return ""
