"""A session's model: when it stays, and when another takes over."""

from hypothesis import given
from hypothesis import strategies as st

from services.router.domain.catalogue import Catalogue
from services.router.domain.decision import Decider
from services.router.domain.fleet import Fleet
from services.router.domain.routes import RouteTable
from services.router.domain.staying import Memory, Standing, Verdict, judge_stay
from tests.unit.router.conftest import TODAY, Ask, Decide, provider_states

FAQ, TECHNICAL, COMPLEX = "gpt-6-luna", "gpt-6.1-terra", "gpt-6.1-sol"
TIERS = st.sampled_from(["cheaper", "strong", ""])
COSTS = st.integers(0, 10_000_000)
STANDINGS = st.builds(Standing, model=st.sampled_from("abc"), tier=TIERS, cost_micro_usd=COSTS)
THANKS = "Thanks, that helped."
HARD = "Design a sharding strategy for a multi-tenant database."
UNKNOWN = "Gulls over the harbour, slowly turning, and the rest of that long day."


@given(own=STANDINGS, chosen=STANDINGS, discount=COSTS, is_sure=st.booleans())
def test_no_weaker_model_takes_over(own: Standing, chosen: Standing, discount: int, is_sure: bool) -> None:
    """Without a peer there is nobody to save money with, so only strength can move a session."""
    verdict = judge_stay(own, discount_micro_usd=discount, chosen=chosen, peer=None, is_sure=is_sure)
    assert verdict is (Verdict.TOO_WEAK if is_sure and own.is_weaker_than(chosen) else Verdict.STAYS)
    if verdict is Verdict.TOO_WEAK:
        assert not chosen.is_weaker_than(own)


@given(own=STANDINGS, peer=STANDINGS, discount=COSTS)
def test_a_session_moves_for_money_exactly_where_more_is_saved_than_is_lost(
    own: Standing, peer: Standing, discount: int
) -> None:
    verdict = judge_stay(own, discount_micro_usd=discount, chosen=None, peer=peer, is_sure=True)
    saving = own.cost_micro_usd - peer.cost_micro_usd
    assert verdict is (Verdict.DEARER if saving > discount else Verdict.STAYS)


@given(own=STANDINGS, chosen=STANDINGS, peer=STANDINGS, discount=COSTS, more=COSTS, is_sure=st.booleans())
def test_more_in_the_prompt_cache_never_ends_a_stay(
    own: Standing, chosen: Standing, peer: Standing, discount: int, more: int, is_sure: bool
) -> None:
    def judge(discount_micro_usd: int) -> Verdict:
        return judge_stay(
            own, discount_micro_usd=discount_micro_usd, chosen=chosen, peer=peer, is_sure=is_sure
        )

    if judge(discount) is Verdict.STAYS:
        assert judge(discount + more) is Verdict.STAYS


@given(first=STANDINGS, second=STANDINGS)
def test_of_two_models_at_most_one_is_the_weaker(first: Standing, second: Standing) -> None:
    assert not (first.is_weaker_than(second) and second.is_weaker_than(first))


def test_thanks_do_not_take_a_hard_task_to_a_small_model(decider: Decide, ask: Ask) -> None:
    plan = decider().decide(ask(THANKS), Memory(model=COMPLEX, provider="openai", cached_tokens=9_000))
    decision = plan.decision
    assert (decision.model, decision.route, decision.rule) == (COMPLEX, "simple_faq", "session")
    assert decision.session == f"stays on {COMPLEX}"
    assert [model.id for model in plan.models[:2]] == [COMPLEX, FAQ], "who takes over when it fails"
    assert plan.site == "openai"


def test_a_session_goes_up_where_more_is_needed(decider: Decide, ask: Ask) -> None:
    decision = decider().decide(ask(HARD), Memory(model=FAQ, cached_tokens=9_000)).decision
    assert (decision.model, decision.rule) == (COMPLEX, "reason")
    assert decision.session == f"leaves {FAQ}: a stronger model is needed"


def test_what_nobody_recognises_is_no_reason_to_move(decider: Decide, ask: Ask) -> None:
    assert decider().decide(ask(UNKNOWN)).decision.model == COMPLEX
    decision = decider().decide(ask(UNKNOWN), Memory(model=TECHNICAL)).decision
    assert (decision.model, decision.route, decision.rule) == (TECHNICAL, "complex", "session")


def test_where_the_session_changes_nothing_the_rule_is_told(decider: Decide, ask: Ask) -> None:
    decision = decider().decide(ask(THANKS), Memory(model=FAQ)).decision
    assert (decision.model, decision.rule, decision.session) == (FAQ, "greeting", f"stays on {FAQ}")


def test_a_session_that_fled_from_a_failure_returns_when_that_saves_more_than_it_loses(
    decider: Decide, ask: Ask
) -> None:
    """Of two peers the first costs half as much; a long beginning in the other's cache outweighs that."""
    fled = "claude-opus-5-5"
    prompt = ask(HARD, input_tokens=100_000)
    for cached_tokens in (0, 40_000):
        decision = decider().decide(prompt, Memory(model=fled, cached_tokens=cached_tokens)).decision
        assert (decision.model, decision.rule) == (COMPLEX, "reason")
        assert decision.session == f"leaves {fled}: {COMPLEX} costs less than it does with its prompt cache"
    decision = decider().decide(prompt, Memory(model=fled, cached_tokens=90_000)).decision
    assert (decision.model, decision.rule) == (fled, "session")
    costs = {each.model: each.estimated_cost_micro_usd for each in decision.candidates}
    assert costs[fled] < costs[COMPLEX], "told with the prompt cache"


def test_a_model_that_cannot_is_left(decider: Decide, ask: Ask) -> None:
    """Its provider is not configured, its window too small, a capability missing."""
    memory = Memory(model=COMPLEX, cached_tokens=9_000)
    decision = decider(openai=False).decide(ask(THANKS), memory).decision
    assert decision.model == "claude-haiku-5-5"
    assert decision.session.startswith(f"leaves {COMPLEX}: none of OPENAI_API_KEY")
    decision = decider().decide(ask(THANKS, input_tokens=950_000), memory).decision
    assert "window" in decision.session
    assert decision.model == "claude-haiku-5-5"


def test_a_model_that_cools_is_left(catalogue: Catalogue, routes: RouteTable, ask: Ask) -> None:
    fleet = Fleet(catalogue, {"openai", "anthropic", "local"})
    decider = Decider(catalogue, routes, provider_states(), lambda: TODAY, fleet=fleet)
    fleet.throttle(COMPLEX, "openai", 60)
    decision = decider.decide(ask(THANKS), Memory(model=COMPLEX)).decision
    assert decision.model == FAQ
    assert decision.session == f"leaves {COMPLEX}: its provider takes no more requests for 60 s"


def test_a_model_that_is_gone_is_left_and_a_dead_ones_successor_takes_over(decider: Decide, ask: Ask) -> None:
    decision = decider().decide(ask(THANKS), Memory(model="gpt-0")).decision
    assert (decision.model, decision.session) == (FAQ, "leaves gpt-0: it is none of the route's models")
    later = TODAY.replace(year=2027, month=2)
    decision = decider(today=later).decide(ask(THANKS), Memory(model="gpt-4o", cached_tokens=5_000)).decision
    assert decision.model == TECHNICAL


def test_a_route_that_is_named_keeps_to_its_own_models(decider: Decide, ask: Ask) -> None:
    decision = decider().decide(ask(THANKS, route="simple_faq"), Memory(model=COMPLEX)).decision
    assert (decision.model, decision.rule) == (FAQ, "named")
    assert decision.session == f"leaves {COMPLEX}: it is none of the route's models"
    asked = ask(THANKS, route="complex", input_tokens=9_000)
    own = decider().decide(asked, Memory(model="claude-opus-5-5", cached_tokens=9_000)).decision
    assert (own.model, own.rule) == ("claude-opus-5-5", "session")


def test_other_handlers_and_named_models_know_no_session(decider: Decide, ask: Ask) -> None:
    last = Memory(model=COMPLEX)
    agent = decider().decide(ask("Use the agent to find out."), last).decision
    assert (agent.handler.WhichOneof("kind"), agent.session) == ("agent", "")
    named = decider().decide(ask(THANKS, model=FAQ), last).decision
    assert (named.model, named.rule, named.session) == (FAQ, "named", "")


def test_an_explanation_tells_what_the_decision_would(decider: Decide, ask: Ask) -> None:
    for text in (THANKS, HARD, UNKNOWN):
        for model in (FAQ, TECHNICAL, COMPLEX):
            last = Memory(model=model, cached_tokens=2_000)
            assert decider().explain(ask(text), last) == decider().decide(ask(text), last).decision
