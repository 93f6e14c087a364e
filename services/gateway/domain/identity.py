"""Who calls, and what they may do, whichever credential told so."""

from dataclasses import dataclass
from datetime import datetime

from services.gateway.domain.limits import NO_LIMITS, Limits

ALL_SCOPES = "*"
KEYS_SCOPE = "keys"
TENANTS_SCOPE = "tenants"
RPCS = "rpc:"
ROUTES = "route:"
MODELS = "model:"
TARGETS = (ROUTES, MODELS, "collection:")
PRIORITIES = "priority:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The holder of a credential.

    Attributes:
        id: Public, such as `qk_3f9a01b2c4d5`; logs and the ledger name it.
        scopes: `*`, or any of `rpc:<name>`, `route:<name>`, `model:<id>`, `collection:<name>`,
            `priority:<name>`, `keys`, `tenants`.
        limits: Its own; fields that are None fall to the configured ones.
        tenant_limits: The same of its tenant, for all its keys together.
    """

    id: str
    tenant: str
    scopes: frozenset[str]
    expire_time: datetime | None = None
    limits: Limits = NO_LIMITS
    tenant_limits: Limits = NO_LIMITS

    def is_live(self, now: datetime) -> bool:
        """False once it has expired."""
        return self.expire_time is None or now < self.expire_time

    def allows_keys(self) -> bool:
        """Whether it may see and change the keys of its tenant: only where its scopes say so."""
        return not self.scopes.isdisjoint({ALL_SCOPES, KEYS_SCOPE})

    def allows_tenants(self) -> bool:
        """Whether its holder operates the suite: may see and change tenants, and make keys for them.

        With `*` only API keys are an operator's: an issuer may mean all of one tenant by it.
        """
        return TENANTS_SCOPE in self.scopes

    def allows_rpc(self, name: str) -> bool:
        """Whether it may call an rpc: any, unless its scopes name some."""
        return self._allows(f"{RPCS}{name}", (RPCS,))

    def is_held_to_targets(self) -> bool:
        """Whether its scopes name the routes, models or collections that it may use."""
        return ALL_SCOPES not in self.scopes and any(one.startswith(TARGETS) for one in self.scopes)

    def allows_target(self, kind: str, name: str) -> bool:
        """Whether it may use a `route`, `model` or `collection`: any, unless its scopes name some.

        Scopes that name models and no route leave every route to it, which is then held to the models.
        """
        if self._allows(f"{kind}:{name}", TARGETS):
            return True
        return f"{kind}:" == ROUTES and self.is_kept_to_models()

    def permitted_models(self) -> tuple[str, ...] | None:
        """The models that its scopes name, to which routes, pipelines and runs are held; None for any."""
        if ALL_SCOPES in self.scopes:
            return None
        return (
            tuple(sorted(one.removeprefix(MODELS) for one in self.scopes if one.startswith(MODELS))) or None
        )

    def is_kept_to_models(self) -> bool:
        """Whether its requests end at models whatever a route says: its scopes name some, and no route."""
        if self.permitted_models() is None:
            return False
        return not any(one.startswith(ROUTES) for one in self.scopes)

    def names_of(self, kind: str) -> list[str] | None:
        """The `route`s, `model`s or `collection`s that it may use; None for any."""
        if not self.is_held_to_targets():
            return None
        prefix = f"{kind}:"
        return sorted(one.removeprefix(prefix) for one in self.scopes if one.startswith(prefix))

    def allows_priority(self, name: str) -> bool:
        """Whether its calls may have a priority: any, unless its scopes name some."""
        return self._allows(f"{PRIORITIES}{name}", (PRIORITIES,))

    def _allows(self, scope: str, kinds: tuple[str, ...]) -> bool:
        if ALL_SCOPES in self.scopes or scope in self.scopes:
            return True
        return not any(granted.startswith(kinds) for granted in self.scopes)
