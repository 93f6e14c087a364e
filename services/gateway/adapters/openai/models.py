from datetime import UTC, datetime
from typing import Any

from quartet.common.v1.price_pb2 import LongerPrice
from quartet.gateway.v1 import gateway_pb2

RELEASED = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
"""OpenAI's shape wants a time of creation, which no vendor's list of prices tells: the same for all."""
_FACTS = (
    "kind",
    "provider",
    "aliases",
    "context_window",
    "max_output_tokens",
    "capabilities",
    "input_micro_usd_per_mtok",
    "output_micro_usd_per_mtok",
    "successor",
    "available",
    "unavailable_because",
)
_LONGER_FACTS = tuple(field.name for field in LongerPrice.DESCRIPTOR.fields)


def write_model(model: gateway_pb2.Model) -> dict[str, Any]:
    """A model as OpenAI tells of it, with the facts that we know beside."""
    written: dict[str, Any] = {
        "id": model.id,
        "object": "model",
        "created": RELEASED,
        "owned_by": model.provider or "quartet",
        "quartet": {name: _plain(getattr(model, name)) for name in _FACTS},
    }
    if model.longer_prices:
        written["quartet"]["longer_prices"] = [
            {name: getattr(longer, name) for name in _LONGER_FACTS} for longer in model.longer_prices
        ]
    if model.HasField("shutdown_time"):
        written["shutdown_date"] = model.shutdown_time.ToDatetime(UTC).date().isoformat()
    return written


def write_models(models: list[gateway_pb2.Model]) -> dict[str, Any]:
    """The list of models."""
    return {"object": "list", "data": [write_model(model) for model in models]}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int) else list(value)
