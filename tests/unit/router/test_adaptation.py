from collections.abc import Callable

import pytest

from quartet.common.v1 import generation_pb2 as generation
from quartet.common.v1 import message_pb2 as message
from quartet.router.v1.router_pb2 import Prompt
from services.kit.errors import InvalidArgument
from services.router.domain.adaptation import ModelRequest, adapt
from services.router.domain.catalogue import Catalogue
from services.router.domain.routes import RouteTable
from tests.unit.router.conftest import Ask

Fit = Callable[..., ModelRequest]


@pytest.fixture
def fit(catalogue: Catalogue, routes: RouteTable) -> Fit:
    def make(prompt: Prompt, model: str, *, output_tokens: int = 4000, route: str = "") -> ModelRequest:
        bounds = routes.find(route) if route else routes.named
        return adapt(prompt, catalogue.find(model), bounds, output_tokens=output_tokens)

    return make


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        ("gpt-4o", True),
        ("gpt-5.2", True),
        ("gpt-5", False),
        ("gpt-6-luna", False),
        ("claude-opus-4-6", True),
        ("claude-opus-4-7", False),
        ("claude-fable-5-1", False),
    ],
)
def test_temperature_is_kept_for_models_that_take_it(fit: Fit, ask: Ask, model: str, kept: bool) -> None:
    prompt = ask()
    prompt.spec.temperature = 0.3
    request = fit(prompt, model)
    assert request.spec.HasField("temperature") is kept
    assert request.adapted == (() if kept else ("temperature",))


def test_the_default_temperature_is_dropped_without_a_word(fit: Fit, ask: Ask) -> None:
    prompt = ask()
    prompt.spec.temperature = 1
    request = fit(prompt, "gpt-6-luna")
    assert not request.spec.HasField("temperature")
    assert request.adapted == ()


def test_tools_switch_reasoning_off_where_they_exclude_each_other(fit: Fit, ask: Ask) -> None:
    prompt = ask()
    prompt.spec.tools.add(name="weather")
    request = fit(prompt, "gpt-6.1-terra")
    assert request.spec.reasoning.effort == "none"
    assert request.adapted == ("reasoning_effort",)


@pytest.mark.parametrize(
    ("model", "asked", "sent"),
    [
        ("gpt-5", "none", "minimal"),
        ("gpt-6-luna", "minimal", "none"),
        ("gpt-6-luna", "max", "xhigh"),
        ("gpt-4o", "high", ""),
        ("claude-opus-5-5", "minimal", "low"),
    ],
)
def test_effort_becomes_the_nearest_that_the_model_knows(
    fit: Fit, ask: Ask, model: str, asked: str, sent: str
) -> None:
    prompt = ask()
    prompt.spec.reasoning.effort = asked
    request = fit(prompt, model)
    assert request.spec.reasoning.effort == sent
    assert request.adapted == ("reasoning_effort",)


@pytest.mark.parametrize(
    ("model", "mode", "sent", "budget"),
    [
        ("claude-sonnet-4-5", "enabled", "enabled", 2000),
        ("claude-sonnet-5-5", "enabled", "adaptive", None),
        ("claude-fable-5-1", "disabled", "", None),
        ("claude-opus-5-5", "disabled", "disabled", None),
        ("claude-haiku-4-5", "adaptive", "enabled", 2000),
    ],
)
def test_thinking_is_asked_for_as_the_model_knows_it(
    fit: Fit, ask: Ask, model: str, mode: str, sent: str, budget: int | None
) -> None:
    prompt = ask()
    prompt.spec.reasoning.mode = mode
    prompt.spec.reasoning.budget_tokens = 2000
    request = fit(prompt, model)
    assert request.spec.reasoning.mode == sent
    got = request.spec.reasoning.budget_tokens if request.spec.reasoning.HasField("budget_tokens") else None
    assert got == budget
    assert ("thinking" in request.adapted) is (mode != sent)


def test_a_thinking_budget_stays_below_the_output(fit: Fit, ask: Ask) -> None:
    prompt = ask()
    prompt.spec.reasoning.mode = "enabled"
    prompt.spec.reasoning.budget_tokens = 9000
    assert fit(prompt, "claude-sonnet-4-5").spec.reasoning.budget_tokens == 3999
    too_short = fit(prompt, "claude-sonnet-4-5", output_tokens=500)
    assert too_short.spec.reasoning.mode == ""
    assert "thinking" in too_short.adapted


def test_a_short_route_does_not_spend_its_tokens_on_reasoning(fit: Fit, ask: Ask) -> None:
    luna = fit(ask(), "gpt-6-luna", route="simple_faq")
    haiku = fit(ask(), "claude-haiku-5-5", route="simple_faq")
    assert (luna.spec.reasoning.effort, haiku.spec.reasoning.mode) == ("none", "disabled")
    assert luna.adapted == haiku.adapted == ()


def test_extras_of_another_dialect_are_dropped_by_name(fit: Fit, ask: Ask) -> None:
    prompt = ask()
    prompt.spec.extra_json = '{"logit_bias":{"50256":-100},"user":"u"}'
    prompt.spec.extra_dialect = "openai"
    assert fit(prompt, "gpt-6-luna").spec.extra_json == prompt.spec.extra_json
    other = fit(prompt, "claude-haiku-5-5")
    assert other.adapted == ("logit_bias",)
    assert other.spec.extra_json == '{"metadata":{"user_id":"u"}}'


def test_what_only_another_dialect_knows_is_named_wherever_it_stands(fit: Fit, ask: Ask) -> None:
    prompt = ask()
    turn, spec = prompt.messages[0], prompt.spec
    turn.extra.dialect, turn.extra.json = "openai", '{"role":"developer","phase":"x"}'
    turn.parts[0].cache_control_json = '{"type":"ephemeral"}'
    turn.parts[0].extra.dialect, turn.parts[0].extra.json = "anthropic", '{"citations":[]}'
    said = prompt.messages.add(role=message.ROLE_ASSISTANT)
    said.parts.add().opaque.CopyFrom(message.Extra(dialect="anthropic", json='{"type":"server_tool_use"}'))
    prompt.messages.add(role=message.ROLE_USER).parts.add(text="go on")
    spec.tools.add(name="f").extra.CopyFrom(message.Extra(dialect="anthropic", json='{"defer_loading":true}'))
    spec.extras.add(dialect="responses", json='{"truncation":"auto"}')
    assert fit(prompt, "claude-haiku-5-5").adapted == ("truncation", "phase")
    assert set(fit(prompt, "gpt-6-luna").adapted) >= {
        *("truncation", "defer_loading", "cache_control", "citations", "server_tool_use")
    }


def test_extras_that_are_no_object_are_refused(fit: Fit, ask: Ask) -> None:
    for text in ("[1]", "{"):
        prompt = ask()
        prompt.spec.extra_json = text
        with pytest.raises(InvalidArgument, match="extra_json"):
            fit(prompt, "gpt-6-luna")


def test_seed_and_json_mode_are_said_to_be_adapted_for_anthropic(fit: Fit, ask: Ask) -> None:
    prompt = ask()
    prompt.spec.seed = 7
    prompt.spec.response_format.kind = generation.ResponseFormat.KIND_JSON_OBJECT
    assert set(fit(prompt, "claude-opus-5-5").adapted) == {"seed", "response_format"}
    assert fit(prompt, "gpt-6-luna").adapted == ()
