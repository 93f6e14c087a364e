"""Which model answered a session last, as all routers remember it; a lost store only makes them forget."""

import hashlib
import time
from collections.abc import Callable

import orjson

from quartet.common.v1.decision_pb2 import Decision
from quartet.common.v1.generation_pb2 import Completion, Usage
from quartet.router.v1.router_pb2 import Prompt
from services.kit.call import Call
from services.router.domain.catalogue import Capability, Dialect, Model
from services.router.domain.plan import Plan
from services.router.domain.routes import RouteTable
from services.router.domain.staying import Memory
from services.router.ports import StoreUnavailableError, TenantCache

PROMPT_CACHE_S = 300.0
"""How long prompt caches surely hold what nobody reads: OpenAI says 5 to 10 minutes, Anthropic 5."""
MIN_CACHED_TOKENS = 1024
"""OpenAI caches beginnings from this length on, and does so unasked."""


class Sessions:
    """The memory of sessions.

    Args:
        store: Where all routers keep it; None remembers nothing.
        ttl_s: How long after its last answer a session is remembered.
        clock: Unix seconds, by which routers agree how old an answer is.
    """

    def __init__(
        self,
        store: TenantCache | None,
        routes: RouteTable,
        *,
        ttl_s: float = 3600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._routes = routes
        self._ttl_s = max(1, round(ttl_s))
        self._clock = clock

    async def recall(self, prompt: Prompt, call: Call) -> Memory | None:
        """The last answer of the prompt's session.

        None where the prompt names a model, or a route that has only one; the store is then not asked.
        """
        if self._store is None or not self._has_choice(prompt):
            return None
        try:
            data = await self._store.get(call.tenant, _name(prompt.session))
        except StoreUnavailableError:
            return None
        return None if data is None else self._read(data)

    async def note(
        self, prompt: Prompt, plan: Plan, decision: Decision, completion: Completion, call: Call
    ) -> None:
        """Remembers an answer; one from the answer cache has warmed no prompt cache, and is passed over."""
        if self._store is None or not self._has_choice(prompt) or not completion.usage.model_calls:
            return
        model = next((model for model in plan.models if model.id == completion.model), None)
        if model is None or model.can(Capability.PASSAGES_ONLY):
            return
        chosen = next((each for each in decision.candidates if each.model == model.id), None)
        data = orjson.dumps(
            {
                "model": model.id,
                "provider": chosen.provider if chosen is not None else model.provider,
                "cached_tokens": count_cached(model, completion.usage),
                "at": self._clock(),
            }
        )
        try:
            await self._store.put(call.tenant, _name(prompt.session), data, ttl_s=self._ttl_s)
        except StoreUnavailableError:
            return

    def _has_choice(self, prompt: Prompt) -> bool:
        if not prompt.session:
            return False
        kind = prompt.target.WhichOneof("kind")
        if kind != "route":
            return kind is None
        name = prompt.target.route
        return name in self._routes and self._routes.find(name).has_choice

    def _read(self, data: bytes) -> Memory | None:
        try:
            fields = orjson.loads(data)
        except orjson.JSONDecodeError:
            return None
        match fields:
            case {"model": str(model), "provider": str(site), "cached_tokens": int(cached), "at": float(at)}:
                is_warm = self._clock() - at <= PROMPT_CACHE_S
                return Memory(model=model, provider=site, cached_tokens=max(0, cached) if is_warm else 0)
        return None


def count_cached(model: Model, usage: Usage) -> int:
    """Tokens of a conversation's beginning that the provider's prompt cache holds after a call."""
    reported = usage.cached_input_tokens + usage.cache_write_tokens
    caches_unasked = model.dialect is Dialect.OPENAI and model.can(Capability.PROMPT_CACHING)
    if caches_unasked and usage.input_tokens >= MIN_CACHED_TOKENS:
        return max(reported, usage.input_tokens)
    return reported


def _name(session: str) -> str:
    """Sessions are hashed: they come from clients, in any alphabet."""
    return hashlib.sha256(session.encode()).hexdigest()
