"""One answer for each idempotency key: the first request makes it, even when its caller goes away."""

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable

from quartet.router.v1.router_pb2 import GenerateRequest, GenerateResponse
from services.kit.call import Call
from services.kit.errors import AlreadyExists, ResourceExhausted
from services.kit.tasks import end
from services.router.ports import AnswerStore, StoreUnavailableError

log = logging.getLogger(__name__)

Make = Callable[[Call], Awaitable[GenerateResponse]]

RENEWAL_S = 5.0
"""Between renewals of a claim; a claim that is not renewed is free again after a few of them."""
FIRST_POLL_S = 0.05
MAX_POLL_S = 1.0


class Once:
    """Answers requests that carry an idempotency key.

    Args:
        max_detached: Answers under way at once; more are refused.
        timeout_s: How long one may take, whatever its caller's deadline was.
    """

    def __init__(self, store: AnswerStore, *, max_detached: int, timeout_s: float) -> None:
        self._store = store
        self._max_detached = max_detached
        self._timeout_s = timeout_s
        self._running: dict[tuple[str, str], asyncio.Task[GenerateResponse]] = {}
        self._store_was_down = False

    async def answer(self, request: GenerateRequest, make: Make, call: Call) -> GenerateResponse:
        """The answer of this key: made now, being made, or made before.

        A failure is not kept: the next request with the key tries again.

        Raises:
            AlreadyExists: The key was used for a different request.
            ResourceExhausted: Too many answers are under way.
        """
        tenant, key = call.tenant, request.prompt.idempotency_key
        fingerprint = _fingerprint(request, call.models)
        poll_s = FIRST_POLL_S
        while True:
            owner = secrets.token_hex(8)
            try:
                record = await self._store.claim(tenant, key, fingerprint, owner)
            except StoreUnavailableError as error:
                self._note_store(error)
                return await make(call)
            self._note_store(None)
            if record is None:
                return await self._make_detached(make, call, key, fingerprint, owner)
            if record.fingerprint != fingerprint:
                raise AlreadyExists(
                    "this idempotency key was used for a different request: use another key",
                    reason="IDEMPOTENCY_KEY_REUSED",
                )
            if record.answer is not None:
                return GenerateResponse.FromString(record.answer)
            running = self._running.get((tenant, key))
            if running is not None:
                await asyncio.wait([running])
            else:
                await asyncio.sleep(min(poll_s, call.remaining_s()))
                poll_s = min(MAX_POLL_S, poll_s * 2)

    async def close(self) -> None:
        """Cancels what is under way."""
        await end(*self._running.values())

    async def _make_detached(
        self, make: Make, call: Call, key: str, fingerprint: str, owner: str
    ) -> GenerateResponse:
        if len(self._running) >= self._max_detached:
            await self._release(call.tenant, key, owner)
            raise ResourceExhausted(
                "too many requests with idempotency keys are under way: try again later",
                reason="TOO_MANY_DETACHED",
                retry_after_s=1.0,
            )
        own = call.outgoing()
        own.deadline = time.monotonic() + self._timeout_s
        task = asyncio.create_task(self._make(make, own, key, fingerprint, owner), name="idempotent-answer")
        self._running[call.tenant, key] = task
        task.add_done_callback(lambda done: self._forget(call.tenant, key, done))
        return await asyncio.shield(task)

    async def _make(self, make: Make, call: Call, key: str, fingerprint: str, owner: str) -> GenerateResponse:
        renewal = asyncio.create_task(self._renew(call.tenant, key, owner))
        kept = False
        try:
            async with asyncio.timeout_at(call.deadline):
                response = await make(call)
            kept = await self._keep(call.tenant, key, fingerprint, response)
            return response
        finally:
            await end(renewal)
            if not kept:
                await self._release(call.tenant, key, owner)

    async def _renew(self, tenant: str, key: str, owner: str) -> None:
        while True:
            await asyncio.sleep(RENEWAL_S)
            try:
                await self._store.renew(tenant, key, owner)
            except StoreUnavailableError as error:
                self._note_store(error)

    async def _keep(self, tenant: str, key: str, fingerprint: str, response: GenerateResponse) -> bool:
        try:
            await self._store.keep(tenant, key, fingerprint, response.SerializeToString())
        except StoreUnavailableError as error:
            self._note_store(error)
            return False
        return True

    async def _release(self, tenant: str, key: str, owner: str) -> None:
        try:
            await self._store.release(tenant, key, owner)
        except StoreUnavailableError as error:
            self._note_store(error)

    def _forget(self, tenant: str, key: str, task: asyncio.Task[GenerateResponse]) -> None:
        del self._running[tenant, key]
        if not task.cancelled():
            task.exception()  # marks it as seen: its caller may be gone

    def _note_store(self, error: StoreUnavailableError | None) -> None:
        if error is not None and not self._store_was_down:
            log.error("idempotency is off while the store of answers is down: %s", error)
        self._store_was_down = error is not None


def _fingerprint(request: GenerateRequest, models: tuple[str, ...] | None) -> str:
    """Tells whether two requests ask the same of the same models; key, priority and run do not count."""
    bare = GenerateRequest()
    bare.CopyFrom(request)
    for name in ("idempotency_key", "priority", "run_id"):
        bare.prompt.ClearField(name)
    bare.prompt.budget.ClearField("account_id")
    asked = hashlib.sha256(bare.SerializeToString(deterministic=True))
    if models is not None:
        # Behind the hash, so that no request's own bytes can stand for the names.
        asked = hashlib.sha256(asked.digest() + ",".join(models).encode())
    return asked.hexdigest()
