"""Answers to questions that were asked in other words."""

from dataclasses import dataclass
from typing import Protocol, Self

from quartet.common.v1.message_pb2 import ROLE_USER
from quartet.router.v1.router_pb2 import Prompt
from services.kit.call import Call
from services.kit.errors import QuartetError
from services.router.domain.caching import name_context
from services.router.domain.paraphrase import MAX_CHARS, is_paraphrase
from services.router.domain.plan import Plan
from services.router.ports import StoreUnavailableError

EMBED_TIMEOUT_S = 0.5
"""A cache that takes longer than this saves nobody's time."""
NEIGHBOURS = 8
"""Nearest questions that the guard looks at."""


@dataclass(slots=True, kw_only=True)
class Question:
    """The last message of a prompt, where it is nothing but words.

    Attributes:
        context: Hash of all else that affects the answer.
        vector: MiniLM's, packed float32, once it was made.
    """

    tenant: str
    context: str
    text: str
    vector: bytes = b""

    @classmethod
    def of(cls, prompt: Prompt, plan: Plan, tenant: str) -> Self | None:
        """None where the last message is not a short text of the user."""
        last = prompt.messages[-1]
        if last.role != ROLE_USER or any(part.WhichOneof("kind") != "text" for part in last.parts):
            return None
        text = "\n".join(part.text for part in last.parts).strip()
        if not text or len(text) > MAX_CHARS:
            return None
        return cls(tenant=tenant, context=name_context(prompt, plan, tenant), text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A question asked before, and the name of its answer."""

    text: str
    answer: str


class QuestionIndex(Protocol):
    """Questions by their vectors; raises StoreUnavailableError when it cannot be reached."""

    async def nearest(self, question: Question, *, least_similarity: float, limit: int) -> list[Neighbour]:
        """Questions of the same tenant and context, nearest first, whose answers have not expired."""
        ...

    async def add(self, question: Question, answer: str, *, ttl_s: int) -> None:
        """Keeps a question with the name of its answer."""
        ...


class TextEmbedder(Protocol):
    """Makes MiniLM's vector of a text, packed float32; raises errors of the tree."""

    async def embed_text(self, text: str, *, timeout_s: float) -> bytes: ...


class SemanticCache:
    """Finds answers by vectors and lets only sure paraphrases through."""

    def __init__(self, index: QuestionIndex, embedder: TextEmbedder) -> None:
        self._index = index
        self._embedder = embedder

    async def find(self, question: Question, least_similarity: float, call: Call) -> str | None:
        """The name of the answer to a paraphrase; None as well when vectors or index are not to be had."""
        try:
            timeout_s = min(EMBED_TIMEOUT_S, call.remaining_s())
            question.vector = await self._embedder.embed_text(question.text, timeout_s=timeout_s)
            near = await self._index.nearest(question, least_similarity=least_similarity, limit=NEIGHBOURS)
        except (QuartetError, StoreUnavailableError):
            return None
        return next((one.answer for one in near if is_paraphrase(question.text, one.text)), None)

    async def keep(self, question: Question, answer: str, *, ttl_s: int) -> None:
        """Notes a question that was answered, where `find` was asked for it before."""
        if not question.vector:
            return
        try:
            await self._index.add(question, answer, ttl_s=ttl_s)
        except StoreUnavailableError:
            return
