"""Decides with the help of a cheap model where neither a rule nor the learned classifier is sure."""

from dataclasses import dataclass

from quartet.common.v1 import decision_pb2 as pb
from quartet.common.v1.generation_pb2 import Completion, Usage
from quartet.router.v1.router_pb2 import Prompt
from services.kit.call import Call
from services.kit.usage import add_usage
from services.router.domain.asking import Asker
from services.router.domain.decision import Decider
from services.router.domain.plan import Plan
from services.router.domain.staying import Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A plan, and what finding it took.

    Attributes:
        prompt: With what is left of its budget.
        used: By the question; None where none was answered.
    """

    prompt: Prompt
    plan: Plan
    used: Usage | None = None

    def charge(self, completion: Completion) -> Completion:
        """The answer with what was used beside it: a copy, since others may share the answer."""
        extra = [usage for usage in (self.used, self.plan.course.beside) if usage is not None]
        if not extra:
            return completion
        charged = Completion()
        charged.CopyFrom(completion)
        for usage in extra:
            add_usage(charged.usage, usage)
        return charged


class Classifying:
    """As `Decider`; without an asker the tables alone decide."""

    def __init__(self, decider: Decider, asker: Asker | None = None) -> None:
        self._decider = decider
        self._asker = asker

    async def decide(self, prompt: Prompt, last: Memory | None, call: Call) -> Decided:
        """The plan for a prompt; raises as `Decider.decide`."""
        asker, used, models = self._find_asker(call), None, call.models
        if asker is None:
            return Decided(prompt=prompt, plan=self._decider.decide(prompt, last, models=models))
        judged = self._decider.judge(prompt)
        text, choice = judged.features.text, self._decider.choose(prompt, judged)
        if text and choice.is_less_sure_than(asker.labelling.below):
            judged.label = asker.recall(text, call.tenant)
            if not judged.label and (model := asker.find_model(prompt)) is not None:
                judged.label, used = await asker.ask(model, prompt, text, choice.route.name, call)
        if used is not None:
            prompt = _spend(prompt, used)
        plan = self._decider.decide(prompt, last, judged, models=models)
        return Decided(prompt=prompt, plan=plan, used=used)

    def explain(self, prompt: Prompt, last: Memory | None, call: Call) -> pb.Decision:
        """As `Decider.explain`; where a model would be asked, a warning says so, and none is asked."""
        asker, warning = self._find_asker(call), ""
        if asker is None:
            return self._decider.explain(prompt, last, models=call.models)
        judged = self._decider.judge(prompt)
        text, choice = judged.features.text, self._decider.choose(prompt, judged)
        if text and choice.is_less_sure_than(asker.labelling.below):
            judged.label = asker.recall(text, call.tenant)
            if not judged.label and (model := asker.find_model(prompt)) is not None:
                warning = (
                    f"{model.id} would be asked which route this is, since neither a rule nor the learned "
                    "classifier is sure; what it says is not known beforehand"
                )
        decision = self._decider.explain(prompt, last, judged, models=call.models)
        if warning:
            decision.warnings.append(warning)
        return decision

    def _find_asker(self, call: Call) -> Asker | None:
        """Who may be asked on the call's behalf; not even what the model said before counts else."""
        asker = self._asker
        if asker is None or call.models is None:
            return asker
        model = self._decider.find_ready(asker.labelling.model)
        return asker if model is not None and self._decider.permits(model, call.models) else None


def _spend(prompt: Prompt, used: Usage) -> Prompt:
    """The prompt with what is left of its budget."""
    left = Prompt()
    left.CopyFrom(prompt)
    budget = left.budget
    if budget.HasField("max_model_calls"):
        budget.max_model_calls = max(0, budget.max_model_calls - used.model_calls)
    if budget.HasField("max_tokens"):
        budget.max_tokens = max(0, budget.max_tokens - used.input_tokens - used.output_tokens)
    if budget.HasField("max_cost_micro_usd"):
        budget.max_cost_micro_usd = max(0, budget.max_cost_micro_usd - used.cost_micro_usd)
    return left
