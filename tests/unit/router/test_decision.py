from datetime import date

import pytest

from quartet.common.v1 import generation_pb2 as generation
from quartet.common.v1 import message_pb2 as message
from services.kit.errors import InvalidArgument, NotFound
from services.router.domain.catalogue import Catalogue
from services.router.domain.decision import Decider
from services.router.domain.plan import revise
from services.router.domain.routes import RouteTable
from tests.unit.router.conftest import Ask, Decide, provider_states


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("Hi!", "simple_faq"),
        ("What is photosynthesis?", "simple_faq"),
        ("how tall is mount everest", "simple_faq"),
        ("How do I set up replication in PostgreSQL?", "technical"),
        ("Explain the difference between TCP and UDP.", "technical"),
        ("Implement binary search in Rust.", "code_gen"),
        ("Write a SQL query that lists duplicate rows", "code_gen"),
        ("Compare three strategies for entering the Brazilian market.", "complex"),
        ("In a grove of quiet elms the council met, and nothing was ever decided there again.", "complex"),
        ("word " * 500, "complex"),
    ],
)
def test_rules_recognise_what_is_asked(decider: Decide, ask: Ask, text: str, route: str) -> None:
    assert decider().decide(ask(text)).decision.route == route


def test_what_no_rule_recognises_is_complex_and_unknown(decider: Decide, ask: Ask) -> None:
    text = "Gulls over the harbour, slowly turning, and the rest of that long day."
    decision = decider().decide(ask(text)).decision
    assert (decision.route, decision.rule, decision.intent) == ("complex", "default", "unknown")
    assert decision.confidence == 0


def test_a_candidate_is_rejected_with_the_variables_that_would_help(decider: Decide, ask: Ask) -> None:
    decision = decider(openai=False).decide(ask("hi")).decision
    assert decision.model == "claude-haiku-5-5"
    first = decision.candidates[0]
    assert (first.model, first.chosen) == ("gpt-6-luna", False)
    assert "OPENAI_API_KEY" in first.rejected_because
    assert first.estimated_cost_micro_usd > 0


def test_a_prompt_that_is_too_long_for_a_model_goes_to_the_next(decider: Decide, ask: Ask) -> None:
    decision = decider().decide(ask("hi", input_tokens=950_000)).decision
    assert decision.model == "claude-haiku-5-5"
    assert "922000" in decision.candidates[0].rejected_because


def test_a_prompt_that_no_model_can_hold_says_so(decider: Decide, ask: Ask) -> None:
    with pytest.raises(InvalidArgument, match="too small") as caught:
        decider().decide(ask("hi", input_tokens=5_000_000))
    assert caught.value.reason == "NO_MODEL_FITS"


def test_a_required_tool_call_goes_to_a_model_that_takes_it(decider: Decide, ask: Ask) -> None:
    prompt = ask("hi", route="code_gen")
    prompt.spec.tools.add(name="weather")
    prompt.spec.tool_choice.mode = generation.ToolChoice.MODE_REQUIRED
    decision = decider().decide(prompt).decision
    assert decision.model == "gpt-6.1-terra"
    prompt.target.model = "claude-sonnet-5-5"
    with pytest.raises(InvalidArgument, match="forced tool use"):
        decider().decide(prompt)


def test_client_tools_stay_with_a_model_whatever_the_rules_say(decider: Decide, ask: Ask) -> None:
    prompt = ask("Use the agent to search our documents.")
    assert decider().decide(prompt).decision.handler.WhichOneof("kind") == "agent"
    prompt.spec.tools.add(name="search")
    assert decider().decide(prompt).decision.handler.WhichOneof("kind") == "model"


def test_passages_make_the_local_model_a_candidate_of_last_resort(decider: Decide, ask: Ask) -> None:
    prompt = ask("How tall is the tower?")
    prompt.messages[0].parts.insert(0, message.Part(passage=message.Passage(text="It is 330 m tall.")))
    assert decider(openai=False, anthropic=False).decide(prompt).decision.model == "local/extractive"
    assert decider().decide(prompt).decision.model == "gpt-6-luna"


def test_a_named_model_keeps_the_length_that_is_asked_of_it(decider: Decide, ask: Ask) -> None:
    prompt = ask("hi", model="gpt-6-luna")
    assert decider().decide(prompt).decision.max_output_tokens == 8000
    prompt.spec.max_output_tokens = 100_000
    assert decider().decide(prompt).decision.max_output_tokens == 100_000
    prompt.spec.max_output_tokens = 1_000_000
    assert decider().decide(prompt).decision.max_output_tokens == 128_000


def test_a_dead_candidate_of_a_route_is_replaced_by_its_successor(decider: Decide, ask: Ask) -> None:
    prompt = ask("hi", model="gpt-4o")
    later = decider(today=date(2027, 2, 1)).decide(prompt).decision
    assert later.model == "gpt-6.1-terra"
    assert "2027-01-14" in later.warnings[0]


def test_a_model_that_dies_while_the_router_runs_is_replaced_from_that_day_on(
    catalogue: Catalogue, routes: RouteTable, ask: Ask
) -> None:
    days = [date(2027, 1, 13)]
    decider = Decider(catalogue, routes, provider_states(), lambda: days[-1])
    prompt, scoped = ask("hi", model="gpt-4o"), ["gpt-4o"]
    assert decider.decide(prompt, models=scoped).decision.model == "gpt-4o"
    days.append(date(2027, 1, 14))
    assert decider.decide(prompt, models=scoped).decision.model == "gpt-6.1-terra"


def test_an_unknown_route_is_not_found(decider: Decide, ask: Ask) -> None:
    with pytest.raises(NotFound, match="simple_faq") as caught:
        decider().decide(ask("hi", route="cheap"))
    assert caught.value.reason == "ROUTE_NOT_FOUND"


def test_an_embedding_model_does_not_chat(decider: Decide, ask: Ask) -> None:
    with pytest.raises(InvalidArgument, match="writes no text"):
        decider().decide(ask("hi", model="local/minilm"))


def test_a_decision_that_turned_out_otherwise_says_how(decider: Decide, ask: Ask) -> None:
    plan = decider().decide(ask("hi"))
    revised = revise(plan.decision, plan.models[1], {plan.models[0].id: "it was down"})
    assert revised.model == revised.handler.model == "claude-haiku-5-5"
    assert revised.candidates[0].rejected_because == "it failed: it was down"
    assert plan.decision.model == "gpt-6-luna"
