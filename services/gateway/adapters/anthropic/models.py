from datetime import UTC, datetime
from typing import Any

from quartet.gateway.v1 import gateway_pb2

_EPOCH = "1970-01-01T00:00:00Z"
"""What Anthropic's docs allow where the day of release is not known."""


def write_model(model: gateway_pb2.Model) -> dict[str, Any]:
    """A model as Anthropic tells of it."""
    shutdown = model.shutdown_time.ToDatetime(UTC) if model.HasField("shutdown_time") else None
    retired = shutdown is not None and shutdown <= datetime.now(UTC)
    lifecycle = "retired" if retired else "deprecated" if shutdown else "active"
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": _EPOCH,
        "lifecycle": lifecycle,
        "retires_at": shutdown.isoformat() if shutdown else None,
        "max_input_tokens": model.context_window or None,
        "max_tokens": model.max_output_tokens or None,
    }


def write_models(models: list[gateway_pb2.Model]) -> dict[str, Any]:
    """The list of models, on one page."""
    data = [write_model(model) for model in models]
    return {
        "data": data,
        "has_more": False,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }
