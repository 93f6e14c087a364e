import pytest

from services.kit.errors import InvalidArgument
from services.router.domain.caching import name_answer
from tests.unit.router.conftest import Ask, Decide


@pytest.mark.parametrize("extra", ["{", "[1]", "1", '"service_tier"'])
def test_members_that_are_no_object_are_the_caller_s_fault(decider: Decide, ask: Ask, extra: str) -> None:
    prompt = ask("hi", model="gpt-6-luna")
    prompt.spec.temperature, prompt.spec.extra_json = 0, extra
    with pytest.raises(InvalidArgument) as caught:
        name_answer(prompt, decider().decide(prompt), "acme")
    assert caught.value.field_violations[0][0] == "spec.extra_json"


def test_members_without_effect_name_the_same_answer(decider: Decide, ask: Ask) -> None:
    answers = {}
    for extra in ('{"user":"a","top_k":1}', '{"top_k":1,"user":"b"}', '{"top_k":2}'):
        prompt = ask("hi", model="gpt-6-luna")
        prompt.spec.extra_json = extra
        answers[extra] = name_answer(prompt, decider().decide(prompt), "acme")
    first, second, third = answers.values()
    assert first == second != third
