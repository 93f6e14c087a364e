from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from quartet.common.v1 import message_pb2 as message
from services.router.domain.catalogue import Catalogue
from services.router.domain.decision import Decider
from services.router.domain.judgement import Judgement
from services.router.domain.lengths import OutputLengths
from services.router.domain.policy import Bin, Calibration, Policy
from services.router.domain.routes import RouteTable
from tests.unit.router.conftest import TODAY, Ask, provider_states

KEEP_MOST = Policy(keep=0.95)
UNLIKE_ANY_RULE = "Gulls over the harbour, slowly turning, and the rest of that long day."
BINS = Calibration(
    [
        Bin(least_uplift=0.0, mass=0.5, weak=0.8, strong=0.8),
        Bin(least_uplift=0.5, mass=0.5, weak=0.1, strong=0.8),
    ]
)


@dataclass
class FixedJudge:
    """Finds what it is told to find; counts how often it was asked."""

    uplift: float = 0.1
    intent: str = "technical"
    confidence: float = 0.9
    is_known: bool = True
    hard: str = ""
    asked: int = 0

    def judge(self, text: str) -> Judgement:
        self.asked += 1
        uplift = 0.9 if self.hard and self.hard in text else self.uplift
        return Judgement(
            uplift=uplift, intent=self.intent, confidence=self.confidence, is_known=self.is_known
        )


@pytest.fixture
def decide(catalogue: Catalogue, routes: RouteTable) -> Callable[..., Decider]:
    """Makes a decider with a judge, and with policies on the route `complex`."""

    def make(
        judge: FixedJudge,
        *,
        lengths: OutputLengths | None = None,
        policy: Policy | None = KEEP_MOST,
        shadow: Policy | None = None,
    ) -> Decider:
        table = RouteTable(
            [
                replace(route, policy=policy, shadow=shadow) if route.name == "complex" else route
                for route in routes
            ],
            routes.rules,
            default=routes.default.name,
            named=routes.named,
            baseline=routes.baseline,
            classifier_confidence=routes.classifier_confidence,
        )
        return Decider(
            catalogue, table, provider_states(), lambda: TODAY, judge=judge, calibration=BINS, lengths=lengths
        )

    return make


Make = Callable[..., Decider]


def test_a_prompt_that_no_rule_recognises_goes_where_the_classifier_is_sure_it_belongs(
    decide: Make, ask: Ask
) -> None:
    decision = decide(FixedJudge()).decide(ask(UNLIKE_ANY_RULE)).decision
    assert (decision.route, decision.intent, decision.rule) == ("technical", "technical", "classifier")
    assert decision.confidence == pytest.approx(0.9)


@pytest.mark.parametrize(
    "judge",
    [FixedJudge(confidence=0.3), FixedJudge(is_known=False), FixedJudge(intent="gardening")],
    ids=["unsure", "unlike all that was learnt", "without a route"],
)
def test_what_the_classifier_cannot_tell_goes_to_the_default_route(
    decide: Make, ask: Ask, judge: FixedJudge
) -> None:
    decision = decide(judge).decide(ask(UNLIKE_ANY_RULE)).decision
    assert (decision.route, decision.intent, decision.rule) == ("complex", "unknown", "default")


def test_a_rule_decides_before_the_classifier_and_without_asking_it(decide: Make, ask: Ask) -> None:
    judge = FixedJudge(intent="complex")
    decision = decide(judge).decide(ask("What is the capital of France?")).decision
    assert (decision.route, decision.rule) == ("simple_faq", "short-question")
    assert judge.asked == 0


def test_a_prompt_that_does_not_need_the_strong_model_goes_to_a_cheaper_one(decide: Make, ask: Ask) -> None:
    plan = decide(FixedJudge(uplift=0.1)).decide(ask("hm", route="complex"))
    assert plan.decision.model == "gpt-6-luna"
    assert plan.decision.uplift == pytest.approx(0.1)
    assert plan.decision.policy == "keep 0.95: cheaper"
    assert [model.id for model in plan.models[:3]] == ["gpt-6-luna", "claude-haiku-5-5", "gpt-6.1-sol"]


def test_a_prompt_that_needs_the_strong_model_gets_it(decide: Make, ask: Ask) -> None:
    plan = decide(FixedJudge(uplift=0.6)).decide(ask("hm", route="complex"))
    assert plan.decision.model == "gpt-6.1-sol"
    assert plan.decision.policy == "keep 0.95: strong"
    assert plan.tiers is not None
    assert plan.tiers.strong_cost_micro_usd > plan.tiers.cheaper_cost_micro_usd


def test_a_short_reply_is_as_hard_as_what_it_replies_to(decide: Make, ask: Ask) -> None:
    prompt = ask("Prove the hard theorem.", route="complex")
    prompt.messages.add(role=message.ROLE_ASSISTANT, parts=[message.Part(text="Shall I?")])
    prompt.messages.add(role=message.ROLE_USER, parts=[message.Part(text="Yes, do it.")])
    assert decide(FixedJudge(hard="theorem")).decide(prompt).decision.model == "gpt-6.1-sol"


def test_a_request_with_tools_keeps_the_strong_model(decide: Make, ask: Ask) -> None:
    prompt = ask("hm", route="complex")
    prompt.spec.tools.add(name="search")
    decision = decide(FixedJudge(uplift=0.0)).decide(prompt).decision
    assert decision.model == "gpt-6.1-sol"
    assert not decision.policy


def test_without_a_cheaper_model_that_can_serve_there_is_nothing_to_choose(decide: Make, ask: Ask) -> None:
    plan = decide(FixedJudge(uplift=0.0)).decide(ask("hm", route="complex", input_tokens=950_000))
    assert "gpt-6-luna" not in [model.id for model in plan.models]
    assert plan.decision.model == "claude-haiku-5-5"


def test_an_explanation_tells_the_uplift_even_where_it_decided_nothing(decide: Make, ask: Ask) -> None:
    decision = decide(FixedJudge(uplift=0.3)).explain(ask("What is the capital of France?"))
    assert decision.uplift == pytest.approx(0.3)
    assert not decision.policy


def test_a_shadow_policy_is_noted_and_changes_nothing(decide: Make, ask: Ask) -> None:
    decider = decide(FixedJudge(uplift=0.1), policy=None, shadow=Policy(save=0.4))
    plan = decider.decide(ask("hm", route="complex"))
    assert plan.decision.model == "gpt-6.1-sol"
    assert plan.tiers is not None
    assert (plan.tiers.live, plan.tiers.shadow) == ("strong", "cheaper")


def test_estimates_follow_the_lengths_that_answers_had(decide: Make, ask: Ask) -> None:
    lengths = OutputLengths()
    decider = decide(FixedJudge(), lengths=lengths)
    before = decider.explain(ask("hi")).candidates[0].estimated_cost_micro_usd
    for _ in range(50):
        lengths.note("simple_faq", "gpt-6-luna", 190)
    after = decider.explain(ask("hi")).candidates[0].estimated_cost_micro_usd
    assert after > before
    assert lengths.predict("simple_faq", "gpt-6-luna", otherwise=80) == 190
