from quartet.common.v1.generation_pb2 import Usage
from services.kit.usage import add_usage


def test_usage_adds_up_in_every_count() -> None:
    total = Usage(input_tokens=1, cost_micro_usd=5)
    add_usage(total, Usage(input_tokens=2, reasoning_tokens=3, model_calls=1))
    assert total == Usage(input_tokens=3, cost_micro_usd=5, reasoning_tokens=3, model_calls=1)


def test_a_sum_has_no_tier() -> None:
    total = Usage()
    for tier in ("flex", "default"):
        add_usage(total, Usage(output_tokens=2, service_tier=tier))
    assert total == Usage(output_tokens=4)
