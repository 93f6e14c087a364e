"""What a key may pass on of its own bounds: no looser limits, and no longer life."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta

from quartet.gateway.v1 import key_pb2
from services.gateway.domain.identity import Identity
from services.gateway.domain.keys import ApiKey
from services.kit.errors import PermissionDenied


def check_new_bounds(
    own: Identity, limits: key_pb2.Limits, lifetime: timedelta | None, now: datetime
) -> None:
    """Raises PermissionDenied with the field in which a new key would have more than its maker."""
    _check_limits(own, limits)
    _check_end(own, None if lifetime is None else now + lifetime, "lifetime")


def check_known_bounds(own: Identity, key: key_pb2.Key) -> None:
    """The same for a key that is there, and whose secret its holder would get."""
    _check_limits(own, key.limits)
    _check_end(own, key.expire_time.ToDatetime(UTC) if key.HasField("expire_time") else None, "key_id")


def _check_limits(own: Identity, limits: key_pb2.Limits) -> None:
    asked = {field.name: value for field, value in limits.ListFields()}
    for field in fields(own.limits):
        most: int | None = getattr(own.limits, field.name)
        if most is not None and (field.name not in asked or asked[field.name] > most):
            raise _beyond(f"limits.{field.name}", f"must be at most {most}, as this key's own is")


def _check_end(own: Identity, end: datetime | None, field: str) -> None:
    # A JWT is short-lived by nature: its issuer bounds what its holder may do by its scopes.
    if not isinstance(own, ApiKey) or own.expire_time is None:
        return
    if end is None or end > own.expire_time:
        raise _beyond(field, f"the key must end by {own.expire_time:%Y-%m-%dT%H:%M:%SZ}, as this key does")


def _beyond(field: str, description: str) -> PermissionDenied:
    return PermissionDenied(
        f"{field}: {description}: a key grants no more than it has; ask for less, or use another key",
        reason="GRANT_BEYOND_KEY",
        metadata={"field": field},
        field_violations=[(field, description)],
    )
