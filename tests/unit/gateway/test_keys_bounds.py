from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from quartet.gateway.v1 import key_pb2
from services.gateway.domain.identity import Identity
from services.gateway.domain.keys import ApiKey, make_key
from services.gateway.domain.keys_bounds import check_known_bounds, check_new_bounds
from services.gateway.domain.limits import Limits
from services.kit.errors import PermissionDenied

NOW = datetime(2026, 11, 24, tzinfo=UTC)
DAY = timedelta(days=1)


def holder(*, lives: timedelta | None = None, **limits: int) -> ApiKey:
    key, _ = make_key(tenant="acme", scopes=frozenset({"*"}))
    return replace(key, limits=Limits(**limits), expire_time=None if lives is None else NOW + lives)


def existing(lives: timedelta | None, **limits: int) -> key_pb2.Key:
    key = key_pb2.Key(limits=key_pb2.Limits(**limits))
    if lives is not None:
        key.expire_time.FromDatetime(NOW + lives)
    return key


@pytest.mark.parametrize(
    ("own", "limits", "lifetime"),
    [
        (holder(), {}, None),
        (holder(tokens_per_day=5), {"tokens_per_day": 5}, None),
        (holder(tokens_per_day=5), {"tokens_per_day": 0, "concurrent_calls": 99}, None),
        (holder(tokens_per_day=0), {"tokens_per_day": 0}, None),
        (holder(lives=DAY), {}, DAY),
    ],
)
def test_a_key_with_no_more_than_its_makers_passes(
    own: ApiKey, limits: dict[str, int], lifetime: timedelta | None
) -> None:
    check_new_bounds(own, key_pb2.Limits(**limits), lifetime, NOW)
    check_known_bounds(own, existing(lifetime, **limits))


@pytest.mark.parametrize(
    ("own", "limits", "lifetime", "field"),
    [
        (holder(tokens_per_day=5), {"tokens_per_day": 6}, None, "limits.tokens_per_day"),
        (holder(tokens_per_day=5), {}, None, "limits.tokens_per_day"),
        (holder(micro_usd_per_day=0), {"micro_usd_per_day": 1}, None, "limits.micro_usd_per_day"),
        (holder(lives=DAY), {}, None, "lifetime"),
        (holder(lives=DAY), {}, DAY + timedelta(seconds=1), "lifetime"),
    ],
)
def test_a_key_with_more_is_refused_with_the_field(
    own: ApiKey, limits: dict[str, int], lifetime: timedelta | None, field: str
) -> None:
    with pytest.raises(PermissionDenied) as caught:
        check_new_bounds(own, key_pb2.Limits(**limits), lifetime, NOW)
    assert (caught.value.reason, caught.value.field_violations[0].field) == ("GRANT_BEYOND_KEY", field)
    with pytest.raises(PermissionDenied):
        check_known_bounds(own, existing(lifetime, **limits))


def test_a_jwts_own_end_bounds_no_key() -> None:
    own = Identity(id="jwt", tenant="acme", scopes=frozenset({"keys"}), expire_time=NOW)
    check_new_bounds(own, key_pb2.Limits(), None, NOW)
