"""Answers that were given before: looked for by a request, and kept for those that ask the same."""

from collections.abc import Sequence
from dataclasses import dataclass

from quartet.common.v1.decision_pb2 import Decision
from quartet.common.v1.generation_pb2 import Completion, Delta
from quartet.router.v1.router_pb2 import Prompt
from services.kit.call import Call
from services.router.domain.budget import covers, expected_tier
from services.router.domain.caching import Permission, is_worth_keeping, name_answer, permit
from services.router.domain.plan import Plan
from services.router.domain.recording import MAX_BYTES, Recording
from services.router.domain.routes import Caching
from services.router.domain.semantic import Question, SemanticCache
from services.router.ports import StoreUnavailableError, TenantCache

MAX_EVENTS = 20_000
"""Of a stream; a longer one is not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request that the cache may serve or learn from."""

    prompt: Prompt
    plan: Plan
    call: Call
    caching: Caching
    permission: Permission
    name: str
    question: Question | None

    def may_share(self) -> bool:
        """Whether others may get its answer while it is made: not where its budget could cut that short."""
        plan = self.plan
        return covers(
            self.prompt.budget,
            plan.models,
            input_tokens=plan.input_tokens,
            output_tokens=plan.decision.max_output_tokens,
            service_tier=expected_tier(self.prompt.spec),
        )


class KeptAnswers:
    """The answers of all tenants.

    Args:
        store: Where they are.
        semantic: Finds other wordings; None for never.
    """

    def __init__(self, store: TenantCache, semantic: SemanticCache | None) -> None:
        self._store = store
        self._semantic = semantic
        self._on_the_way: dict[str, bytes] = {}
        """Answers that are being written: their clients have them, and may ask again before the store has."""

    def admit(self, prompt: Prompt, plan: Plan, call: Call) -> Request | None:
        """The request, where its answer may be kept; None where it may not."""
        caching = plan.route.caching
        permission = permit(prompt, caching)
        if caching is None or not permission.may_write:
            return None
        name = name_answer(prompt, plan, call.tenant)
        question = None
        if self._semantic is not None and caching.semantic is not None:
            question = Question.of(prompt, plan, call.tenant)
        return Request(
            prompt=prompt,
            plan=plan,
            call=call,
            caching=caching,
            permission=permission,
            name=name,
            question=question,
        )

    async def recall(self, request: Request) -> Recording | None:
        """The answer to the very same request; None as well where the store is away."""
        return await self._recall(request, request.name)

    async def recall_other_wording(self, request: Request) -> Recording | None:
        """The answer to a question that surely asks the same."""
        question, least = request.question, request.caching.semantic
        if self._semantic is None or question is None or least is None:
            return None
        name = await self._semantic.find(question, least, request.call)
        return None if name is None else await self._recall(request, name)

    async def keep_answer(self, request: Request, answers: Sequence[tuple[Decision, Completion]]) -> None:
        """Keeps what came whole."""
        for _, completion in answers:
            await self.keep(request, Recording.of_answer(completion))

    async def keep_stream(self, request: Request, events: Sequence[Decision | Delta | Completion]) -> None:
        """Keeps what was streamed, where it came to its end."""
        end = events[-1] if events else None
        if isinstance(end, Completion) and len(events) <= MAX_EVENTS:
            deltas = [event for event in events if isinstance(event, Delta)]
            # What stands with single pieces, such as their likelihoods, no whole answer would have.
            if any('"choices":' in delta.extra.json for delta in deltas):
                return
            await self.keep(request, Recording.of_stream(deltas, end))

    async def keep(self, request: Request, recording: Recording) -> None:
        """Keeps an answer that is worth it, whole and as the plan would have it."""
        completion = recording.completion
        # Another model's answer, after a failure, is not what this name stands for.
        if completion.model != request.plan.due or not is_worth_keeping(completion):
            return
        data = recording.to_bytes()
        if len(data) > MAX_BYTES:
            return
        name, ttl_s = request.name, request.caching.ttl_s
        self._on_the_way[name] = data
        try:
            await self._store.put(request.call.tenant, name, data, ttl_s=ttl_s)
        except StoreUnavailableError:
            return
        finally:
            self._on_the_way.pop(name, None)
        if self._semantic is not None and request.question is not None:
            await self._semantic.keep(request.question, name, ttl_s=ttl_s)

    async def _recall(self, request: Request, name: str) -> Recording | None:
        try:
            data = self._on_the_way.get(name) or await self._store.get(request.call.tenant, name)
            return None if data is None else Recording.from_bytes(data)
        except (StoreUnavailableError, ValueError):
            return None
