import asyncio
import base64
import binascii
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

from opentelemetry import trace

from quartet.common.v1 import run_pb2
from quartet.orchestrator.v1 import orchestrator_pb2 as pb
from services.kit import names
from services.kit.call import Call
from services.kit.errors import InvalidArgument
from services.kit.tracing import inject
from services.orchestrator.domain.course import now
from services.orchestrator.domain.progress import question_of
from services.orchestrator.domain.removal import Removal
from services.orchestrator.domain.watch import Watch
from services.orchestrator.ports import Charge, Executor, RunStore

DEFAULT_PAGE_SIZE = 100
ANSWER_MARGIN_S = 2.0
"""A run that its caller waits for ends this long before the caller's deadline: its answer still arrives."""
CANCEL_TIMEOUT_S = 5.0
JOINED_FOR = timedelta(days=1)
"""As long as answers of idempotency keys are kept elsewhere."""


class OrchestratorService:
    """The contract's methods, without those of approvals and forks.

    Args:
        store: The runs.
        executor: Carries them out in the background.
        watch: Follows their events.
        removal: Removes those of a tenant that goes.
        run_timeout_s: How long a run may take that no caller waits for.
    """

    def __init__(
        self, store: RunStore, executor: Executor, watch: Watch, removal: Removal, *, run_timeout_s: float
    ) -> None:
        self._store = store
        self._executor = executor
        self._watch = watch
        self._removal = removal
        self._run_timeout_s = run_timeout_s

    async def start_run(self, request: pb.StartRunRequest, call: Call) -> pb.StartRunResponse:
        run = await self._start(request.task, request.idempotency_key, call, self._run_timeout_s)
        return pb.StartRunResponse(run=run)

    async def get_run(self, request: pb.GetRunRequest, call: Call) -> pb.GetRunResponse:
        return pb.GetRunResponse(run=await self._store.get(call.tenant, request.run_id))

    async def list_runs(self, request: pb.ListRunsRequest, call: Call) -> pb.ListRunsResponse:
        size = request.page_size or DEFAULT_PAGE_SIZE
        after = _read_token(request.page_token) if request.page_token else None
        collections = list(request.collections.names) if request.HasField("collections") else None
        runs = await self._store.page(
            call.tenant, state=request.state, collections=collections, limit=size + 1, after=after
        )
        token = _write_token(runs[size - 1]) if len(runs) > size else ""
        return pb.ListRunsResponse(runs=runs[:size], next_page_token=token)

    async def watch_run(
        self, request: pb.WatchRunRequest, call: Call
    ) -> AsyncGenerator[pb.WatchRunResponse, None]:
        await self._store.get(call.tenant, request.run_id)
        async with aclosing(self._watch.events(request.run_id, first=request.from_event_number)) as events:
            async for event in events:
                yield pb.WatchRunResponse(event=event)

    async def cancel_run(self, request: pb.CancelRunRequest, call: Call) -> pb.CancelRunResponse:
        return pb.CancelRunResponse(run=await self._store.request_cancel(call.tenant, request.run_id))

    async def replay_run(
        self, request: pb.ReplayRunRequest, call: Call
    ) -> AsyncGenerator[pb.ReplayRunResponse, None]:
        await self._store.get(call.tenant, request.run_id)
        async with aclosing(self._watch.replay(request.run_id)) as events:
            async for event in events:
                yield pb.ReplayRunResponse(event=event)

    async def stream_execute(
        self, request: pb.StreamExecuteRequest, call: Call
    ) -> AsyncGenerator[pb.StreamExecuteResponse, None]:
        detached = bool(request.idempotency_key)
        timeout_s = max(0.0, call.remaining_s() - ANSWER_MARGIN_S)
        run = await self._start(request.task, request.idempotency_key, call, timeout_s, joins=JOINED_FOR)
        ended = False
        try:
            async with aclosing(self._watch.events(run.id, first=1)) as events:
                async for event in events:
                    ended = event.HasField("ended")
                    yield pb.StreamExecuteResponse(event=event)
        finally:
            if not ended and not detached:
                async with asyncio.timeout(CANCEL_TIMEOUT_S):
                    await self._store.request_cancel(call.tenant, run.id)

    async def delete_tenant_data(
        self, request: pb.DeleteTenantDataRequest, call: Call
    ) -> pb.DeleteTenantDataResponse:
        del request
        return pb.DeleteTenantDataResponse(deleted_rows=await self._removal.remove(call.tenant))

    async def _start(
        self, task: run_pb2.Task, key: str, call: Call, timeout_s: float, *, joins: timedelta | None = None
    ) -> run_pb2.Run:
        _check(task)
        run = run_pb2.Run(
            id=f"run_{secrets.token_hex(12)}",
            task=task,
            state=run_pb2.RUN_STATE_PENDING,
            create_time=now(),
            last_event_number=1,
        )
        charge = Charge(
            run=run,
            tenant=call.tenant,
            key_id=call.key_id,
            models=call.models,
            deadline=datetime.now(UTC) + timedelta(seconds=timeout_s),
            traceparent=dict(inject(trace.get_current_span())).get(names.TRACEPARENT, ""),
        )
        self._executor.reserve(run.id)
        started = False
        try:
            stored, created = await self._store.create(
                charge, idempotency_key=key, joins=joins, executor=self._executor.id
            )
            if created:
                await self._executor.start(run.id)
                started = True
        finally:
            if not started:
                self._executor.release(run.id)
        return stored


def _check(task: run_pb2.Task) -> None:
    if task.approval_required:
        raise InvalidArgument.field(
            "task.approval_required",
            "approvals are not offered by this version: leave it empty",
            reason="APPROVALS_NOT_OFFERED",
        )
    if not question_of(task):
        raise InvalidArgument.field(
            "task.messages", "the last user message has no text, which is the task: write it there"
        )


def _write_token(run: run_pb2.Run) -> str:
    text = f"{run.create_time.ToMicroseconds()} {run.id}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_token(token: str) -> tuple[datetime, str]:
    try:
        micros, _, run_id = base64.urlsafe_b64decode(token.encode()).decode().partition(" ")
        if "\x00" in run_id:
            raise ValueError("PostgreSQL knows no such text")
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(micros)), run_id
    except (binascii.Error, ValueError, OverflowError):
        raise InvalidArgument.field(
            "page_token", "not a token of ours: send the last answer's next_page_token"
        ) from None
