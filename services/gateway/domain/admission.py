"""The way in: who calls, whether they may, and whether what they send fits."""

import time
from dataclasses import dataclass, replace

from quartet.router.v1 import router_pb2
from services.gateway.domain.identification import Identification
from services.gateway.domain.identity import Identity
from services.gateway.domain.limits import Limits
from services.gateway.domain.options import Options, read_options
from services.gateway.domain.targets import Target
from services.gateway.domain.tokens.counter import Count
from services.gateway.domain.tokens.gauge import TokenGauge
from services.kit.call import Call
from services.kit.errors import PermissionDenied, Unauthenticated

MOST_RESERVE_S = 0.25
"""Kept of a call's time, so that a peer's time runs out first and the caller gets an answer that says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls which rpc, with the key and the headers that came along; `call` bears the key's tenant."""

    call: Call
    rpc: str
    key: Identity
    options: Options

    def outgoing(self, *, timeout_s: float | None = None) -> Call:
        """The call to a peer on this caller's behalf, with the time that the caller, or else we, allow."""
        allowed_s = self._allowed_s()
        wanted_s = self.options.timeout_s or timeout_s
        return self.call.outgoing(timeout_s=allowed_s if wanted_s is None else min(allowed_s, wanted_s))

    def waiting(self) -> Call:
        """This call, as long as it may wait for what goes on without it; it shares the response headers."""
        return replace(self.call, deadline=time.monotonic() + self._allowed_s())

    def _allowed_s(self) -> float:
        remaining_s = self.call.remaining_s()
        return remaining_s - min(MOST_RESERVE_S, remaining_s / 10)


class Admission:
    """Admits calls, or refuses them before they cost anything."""

    def __init__(self, identification: Identification, gauge: TokenGauge, defaults: Limits) -> None:
        self._identification = identification
        self._gauge = gauge
        self._defaults = defaults

    async def enter(self, call: Call, rpc: str) -> Caller:
        """Finds out who calls and reads their headers.

        Raises:
            Unauthenticated: there is no credential, or none that is known, live and right.
            PermissionDenied: the key's scopes leave the rpc out.
            InvalidArgument: a header is wrong.
        """
        key = await self._identification.identify(_credential(call))
        if not key.allows_rpc(rpc):
            message = f"this key may not call {rpc}: its scopes name others; use another key"
            raise PermissionDenied(message, reason="SCOPE_MISSING", metadata={"scope": f"rpc:{rpc}"})
        identified = call.identified(tenant=key.tenant, key_id=key.id, models=key.permitted_models())
        return Caller(call=identified, rpc=rpc, key=key, options=read_options(call.metadata))

    async def check_prompt(self, caller: Caller, target: Target, prompt: router_pb2.Prompt) -> None:
        """Fills the prompt's headers and token count in, and refuses one that is too long or not allowed.

        Raises:
            InvalidArgument: as `TokenGauge.gauge`.
            PermissionDenied: the key's scopes leave the target out.
        """
        target.check_scope(caller.key)
        caller.options.fill(prompt)
        prompt.models_only = caller.key.is_kept_to_models()
        prompt.input_tokens = await self._gauge.gauge(target, prompt, self._limit(caller))

    async def count_prompt(self, caller: Caller, target: Target, prompt: router_pb2.Prompt) -> Count:
        """The tokens as `check_prompt` counts them, however many; raises PermissionDenied as that does."""
        target.check_scope(caller.key)
        return await self._gauge.count(target, prompt.messages, prompt.spec)

    async def check_texts(self, caller: Caller, request: router_pb2.EmbedRequest) -> None:
        """Fills the headers in, and refuses texts that are too long together. Raises as `check_prompt`."""
        model = request.model
        if not caller.key.allows_target("model", model):
            message = (
                f"this key may not use the model {model!r}: use one that its scopes name, or another key"
            )
            raise PermissionDenied(message, reason="SCOPE_MISSING", metadata={"scope": f"model:{model}"})
        caller.options.fill_texts(request)
        await self._gauge.gauge_texts(request.texts, model, self._limit(caller))

    def _limit(self, caller: Caller) -> int:
        own = caller.key.limits.input_tokens_per_request
        return (self._defaults.input_tokens_per_request if own is None else own) or 0


def _credential(call: Call) -> str:
    scheme, _, text = call.metadata.get("authorization", "").partition(" ")
    text = text.strip() if scheme.lower() == "bearer" else ""
    text = text or call.metadata.get("x-api-key", "").strip()
    if not text:
        raise Unauthenticated(
            "no API key was sent: send it as `Authorization: Bearer qk_…` or `x-api-key: qk_…`; "
            "`quartet up` prints one and keeps it in .quartet/dev.key",
            reason="MISSING_API_KEY",
        )
    return text
