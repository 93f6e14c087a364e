"""Which answers may be kept and given again, and under what name."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from quartet.common.v1.generation_pb2 import (
    FINISH_REASON_STOP,
    FINISH_REASON_STOP_SEQUENCE,
    Completion,
    GenerationSpec,
)
from quartet.common.v1.message_pb2 import Message
from quartet.router.v1.router_pb2 import Prompt
from services.router.domain.adaptation import read_object
from services.router.domain.plan import Plan
from services.router.domain.routes import Caching

_ENDED_WELL = (FINISH_REASON_STOP, FINISH_REASON_STOP_SEQUENCE)
_WITHOUT_EFFECT = frozenset(
    (
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    )
)
"""Members of vendors' requests that say who asks or how it is billed, and change no word of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """What the cache may do for one request."""

    may_read: bool
    may_write: bool


NOTHING = Permission(may_read=False, may_write=False)


def permit(prompt: Prompt, caching: Caching | None) -> Permission:
    """What the route and the caller allow: `no-store` forbids both, `no-cache` only the reading."""
    if caching is None or prompt.cache_control == "no-store":
        return NOTHING
    if caching.only_deterministic and not (
        prompt.spec.HasField("temperature") and prompt.spec.temperature == 0
    ):
        return NOTHING
    return Permission(may_read=prompt.cache_control != "no-cache", may_write=True)


def is_worth_keeping(completion: Completion) -> bool:
    """Only whole answers in words: none that was cut off, filtered, declined, or that calls tools."""
    if completion.finish_reason not in _ENDED_WELL or not completion.message.parts:
        return False
    kinds = {part.WhichOneof("kind") for part in completion.message.parts}
    return "text" in kinds and kinds <= {"text", "thinking"}


def name_answer(prompt: Prompt, plan: Plan, tenant: str) -> str:
    """A hash of all that affects the answer, of 64 hex digits."""
    digest = hashlib.blake2b(digest_size=32)
    add_parts(digest, *_partition(prompt, plan, tenant))
    for turn in prompt.messages:
        add_parts(digest, _canonical(turn).SerializeToString(deterministic=True))
    return digest.hexdigest()


def name_context(prompt: Prompt, plan: Plan, tenant: str) -> str:
    """As `name_answer`, of everything but the words of the last message: those may be worded otherwise."""
    digest = hashlib.blake2b(digest_size=32)
    add_parts(digest, *_partition(prompt, plan, tenant))
    for turn in prompt.messages[:-1]:
        add_parts(digest, _canonical(turn).SerializeToString(deterministic=True))
    return digest.hexdigest()


def _partition(prompt: Prompt, plan: Plan, tenant: str) -> Iterable[bytes]:
    yield tenant.encode()
    # Another model may answer in the end: who may use other models is given no such answer.
    yield "\n".join((plan.models[0].id, *sorted(plan.permitted or ()))).encode()
    yield plan.route.name.encode()
    yield plan.route.reasoning_effort.encode()
    yield _canonical_cascade(plan)
    yield str(plan.decision.max_output_tokens).encode()
    yield _canonical_spec(prompt.spec).SerializeToString(deterministic=True)


def _canonical_cascade(plan: Plan) -> bytes:
    """How the answer is checked and who is asked then; empty where it is not."""
    if plan.cascade is None:
        return b""
    return orjson.dumps([plan.escalation[0].id, plan.cascade.judge_output_tokens, *plan.cascade.hedges])


def _canonical(turn: Message) -> Message:
    """Without the marks that only steer a provider's own cache."""
    if not any(part.cache_control_json for part in turn.parts):
        return turn
    bare = Message()
    bare.CopyFrom(turn)
    for part in bare.parts:
        part.ClearField("cache_control_json")
    return bare


def _canonical_spec(spec: GenerationSpec) -> GenerationSpec:
    if not spec.extra_json and not any(tool.cache_control_json for tool in spec.tools):
        return spec
    bare = GenerationSpec()
    bare.CopyFrom(spec)
    for tool in bare.tools:
        tool.ClearField("cache_control_json")
    if bare.extra_json:
        extra = read_object(bare.extra_json, "spec.extra_json")
        kept = {name: value for name, value in extra.items() if name not in _WITHOUT_EFFECT}
        bare.extra_json = orjson.dumps(kept, option=orjson.OPT_SORT_KEYS).decode()
    return bare


def add_parts(digest: "hashlib.blake2b", *parts: bytes) -> None:
    """Each part with its length before it, so that no two lists of parts read alike."""
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
