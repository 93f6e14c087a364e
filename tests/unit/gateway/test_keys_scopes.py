import pytest

from services.gateway.domain.identity import Identity
from services.gateway.domain.keys import ApiKey, make_key
from services.gateway.domain.keys_scopes import check_grant, check_grant_to_other, read_scopes
from services.kit.errors import InvalidArgument, PermissionDenied


def scopes(text: str) -> frozenset[str]:
    return frozenset(text.split())


def holder(own: str) -> ApiKey:
    return make_key(tenant="t", scopes=scopes(own))[0]


@pytest.mark.parametrize(
    "scope",
    [
        "*",
        "keys",
        "rpc:Generate",
        "route:simple_faq",
        "model:gpt-4o",
        "model:local/minilm",
        "collection:docs",
    ],
)
def test_a_scope_of_a_known_form_is_read(scope: str) -> None:
    assert read_scopes([scope]) == {scope}


@pytest.mark.parametrize(
    "scope",
    [
        "",
        "admin",
        "**",
        "rpc:",
        "rpc:*",
        "rpc:generate",
        "Keys",
        "keys ",
        "keys\n",
        "collection:Docs",
        "collection:../x",
        "model:a b",
        "model:\x00",
        "route:\u202eevil",
        "tenant:other",
        "model:" + "m" * 250,
    ],
)
def test_another_form_is_refused_with_its_place(scope: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_scopes(["keys", scope])
    assert caught.value.field_violations[0].field == "scopes[1]"


@pytest.mark.parametrize(
    ("own", "wanted"),
    [
        ("*", "*"),
        ("*", "tenants"),
        ("tenants keys", "keys"),
        ("tenants", "tenants"),
        ("*", "keys rpc:Generate collection:docs"),
        ("keys", "keys"),
        ("keys", "rpc:Generate"),
        ("keys", "collection:docs"),
        ("keys route:a route:b", "route:b"),
        ("keys rpc:Generate rpc:CreateKey model:m", "rpc:Generate model:m"),
        ("keys model:a model:b", "model:b"),
        ("keys route:a model:m", "route:a model:m"),
        ("keys model:m collection:docs", "model:m collection:docs"),
        ("keys route:a collection:docs", "route:a"),
    ],
)
def test_a_key_grants_what_it_may_do_or_less(own: str, wanted: str) -> None:
    check_grant(holder(own), scopes(wanted))


@pytest.mark.parametrize(
    ("own", "wanted", "beyond"),
    [
        ("keys", "*", "*"),
        ("rpc:Generate", "keys rpc:Generate", "keys"),
        ("keys route:a", "route:b", "route:b"),
        # A key that names no target may use every one.
        ("keys route:a", "keys", "collection:*, model:*, route:*"),
        ("keys route:a", "model:m", "model:m"),
        # A key that names no model may use all to which its routes and collections lead.
        ("keys route:a model:m", "route:a", "model:*"),
        ("keys model:m collection:docs", "collection:docs", "model:*"),
        # One that names models and no route may use every route.
        ("keys route:a model:m", "model:m", "route:*"),
        ("keys model:m", "route:a model:m", "route:a"),
        ("keys rpc:CreateKey", "route:a", "rpc:*"),
        ("keys rpc:CreateKey", "rpc:Generate", "rpc:Generate"),
        ("keys", "tenants", "tenants"),
        ("tenants", "*", "*"),
        ("tenants", "keys", "keys"),
    ],
)
def test_a_key_never_grants_what_it_lacks(own: str, wanted: str, beyond: str) -> None:
    with pytest.raises(PermissionDenied) as caught:
        check_grant(holder(own), scopes(wanted))
    assert caught.value.metadata == {"scope": beyond}


def test_a_token_with_all_scopes_makes_no_operators() -> None:
    by = Identity(id="jwt_1", tenant="t", scopes=scopes("*"))
    check_grant(by, scopes("keys rpc:Generate"))
    for wanted in ("*", "tenants"):
        with pytest.raises(PermissionDenied):
            check_grant(by, scopes(wanted))
    check_grant(Identity(id="jwt_1", tenant="t", scopes=scopes("* tenants")), scopes("*"))


@pytest.mark.parametrize("wanted", ["*", "keys tenants"])
def test_no_key_of_another_tenant_becomes_an_operators(wanted: str) -> None:
    check_grant_to_other(scopes("keys"))
    with pytest.raises(PermissionDenied, match="operator"):
        check_grant_to_other(scopes(wanted))
