"""From a credential to whose it is."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from services.gateway.domain.identity import Identity
from services.gateway.domain.keys import NOBODY, ApiKey, key_id_of
from services.gateway.domain.recent import Recent
from services.kit.errors import Unauthenticated

if TYPE_CHECKING:
    from services.gateway.domain.tenants import Tenant
    from services.gateway.ports import Jwts, Keys


class Identification:
    """Knows callers by their API keys and, where an issuer is configured, by its JWTs.

    Every refused text costs one look-up of a key and four hashes, whatever is wrong with it.

    Args:
        jwts: None where only API keys are accepted.
    """

    def __init__(self, keys: "Keys", jwts: "Jwts | None" = None) -> None:
        self._keys: Recent[ApiKey] = Recent(keys.find)
        self._tenants: Recent[Tenant] = Recent(keys.find_tenant)
        self._jwts = jwts

    async def identify(self, text: str) -> Identity:
        """Whose credential it is; raises Unauthenticated for one that is not known, live and right."""
        now = datetime.now(UTC)
        if self._jwts is not None:
            holder = await self._jwts.read(text, now)
            tenant = None if holder is None else await self._tenants.find(holder.tenant)
            if holder is not None and tenant is not None:
                return replace(holder, tenant_limits=tenant.limits)
        key_id = key_id_of(text)
        held = self._keys.held(key_id) or NOBODY
        if held.admits(text, now):
            return held
        # What is held may be older than the secret: whoever changes to a new one at once loses no call.
        key = await self._keys.look_up(key_id) or NOBODY
        if key.admits(text, now):
            return key
        if self._jwts is not None and text.count(".") == 2:
            raise Unauthenticated(self._jwts.remedy, reason="INVALID_TOKEN")
        raise Unauthenticated(
            "the API key is unknown, expired or revoked: send one that `quartet keys` lists, "
            "as `Authorization: Bearer qk_…` or `x-api-key: qk_…`",
            reason="INVALID_API_KEY",
        )
