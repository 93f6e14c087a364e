"""What keys may be allowed: the forms of scopes, and what a key may grant to another."""

import re
from collections.abc import Sequence

from services.gateway.domain.identity import (
    ALL_SCOPES,
    KEYS_SCOPE,
    MODELS,
    PRIORITIES,
    ROUTES,
    RPCS,
    TARGETS,
    TENANTS_SCOPE,
    Identity,
)
from services.kit.errors import InvalidArgument, PermissionDenied

_FORM = re.compile(
    r"\*|keys|tenants"
    r"|rpc:[A-Z][A-Za-z]{0,63}"
    r"|route:[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
    r"|model:[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,199}"
    r"|collection:[a-z0-9][a-z0-9._-]{0,127}"
    r"|priority:(critical|default|sheddable)"
)


def read_scopes(scopes: Sequence[str]) -> frozenset[str]:
    """The scopes as a set; raises InvalidArgument with the place of one that has no known form."""
    for place, scope in enumerate(scopes):
        if not _FORM.fullmatch(scope):
            raise InvalidArgument.field(
                f"scopes[{place}]",
                "is no scope: write `*`, `keys`, `tenants`, `rpc:<Name>` as in `rpc:Generate`, "
                "`route:<name>`, `model:<id>`, `collection:<name>` or `priority:<name>`",
                reason="INVALID_SCOPE",
            )
    return frozenset(scopes)


def check_grant(by: Identity, wanted: frozenset[str]) -> None:
    """Raises PermissionDenied when a key with the scopes `wanted` could do what `by` cannot.

    Scopes narrow: a key that names no rpc may call every one, so a holder that is held to some rpcs (or to
    some routes, models and collections) grants only keys that name some of those. Among these a key without
    models uses all that its routes and collections lead to, and one with models and no route every route.
    """
    own = by.scopes
    # An API key with `*` is an operator's, even where who asks is none in spite of it.
    beyond = wanted & {ALL_SCOPES, TENANTS_SCOPE} if not by.allows_tenants() else frozenset()
    if ALL_SCOPES not in own:
        beyond |= wanted & {ALL_SCOPES, KEYS_SCOPE, TENANTS_SCOPE} - own
        for kinds in ((RPCS,), TARGETS, (PRIORITIES,)):
            allowed = {scope for scope in own if scope.startswith(kinds)}
            asked = {scope for scope in wanted if scope.startswith(kinds)}
            if allowed:
                beyond |= (asked or {f"{kind}*" for kind in kinds}) - allowed
        if not beyond:
            beyond = _unnamed(own, wanted)
    if beyond:
        excess = ", ".join(sorted(beyond))
        raise PermissionDenied(
            f"this key cannot grant {excess}, because a key grants no more than it may do itself: "
            f"name scopes among {', '.join(sorted(own))}, or use another key",
            reason="SCOPE_MISSING",
            metadata={"scope": excess},
        )


def _unnamed(own: frozenset[str], wanted: frozenset[str]) -> frozenset[str]:
    """What a key would have because its scopes, of those that the holder has, do not name it."""
    if _names(own, MODELS) and not _names(wanted, MODELS):
        return frozenset({f"{MODELS}*"})
    if _names(own, ROUTES) and _names(wanted, MODELS) and not _names(wanted, ROUTES):
        return frozenset({f"{ROUTES}*"})
    return frozenset()


def _names(scopes: frozenset[str], kind: str) -> bool:
    return any(scope.startswith(kind) for scope in scopes)


def check_grant_to_other(wanted: frozenset[str]) -> None:
    """Raises PermissionDenied when an operator would make an operator of another tenant's key."""
    if beyond := wanted & {ALL_SCOPES, TENANTS_SCOPE}:
        excess = ", ".join(sorted(beyond))
        raise PermissionDenied(
            f"a key of another tenant cannot have {excess}, which is an operator's: give the tenant's own "
            "administrator `keys`, with which all else within the tenant may be done",
            reason="SCOPE_MISSING",
            metadata={"scope": excess},
        )
