"""Embeds each text once: in a request, beside other requests, and while its vector is kept."""

import hashlib
import logging
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from quartet.common.v1 import decision_pb2 as pb
from quartet.router.v1.router_pb2 import EmbedRequest, EmbedResponse
from services.kit.call import Call
from services.router.domain import failures
from services.router.domain.caching import NOTHING, Permission, add_parts
from services.router.domain.catalogue import Model, VectorCaching
from services.router.domain.embedding import Embedded, Embedding, Vector
from services.router.domain.ledger import name_outcome
from services.router.domain.under_way import UnderWay, wait_for
from services.router.ports import StoreUnavailableError, VectorStore

NoteVectors = Callable[[Model, int, Call], None]
"""Is told of vectors that cost nothing: the model, the tokens that it once read for them."""

_TOKENS = struct.Struct("<I")

log = logging.getLogger(__name__)


class CachedEmbedding:
    """As `Embedding`, with a cache of vectors before it.

    Args:
        store: Where vectors are kept; None for nowhere.
    """

    def __init__(self, embedding: Embedding, store: VectorStore | None, note_vectors: NoteVectors) -> None:
        self._embedding = embedding
        self._store = store
        self._note_vectors = note_vectors
        self._under_way: UnderWay[Vector] = UnderWay()

    async def embed(self, model: Model, request: EmbedRequest, call: Call) -> EmbedResponse:
        """The vectors of all texts in their order; raises as `Embedding.embed`, or what a call ended with.

        Vectors that were made before a failure are kept: the next request need not pay for them again.
        """
        texts = list(dict.fromkeys(request.texts))
        shelf = self._open(model, request, texts, call)
        free: dict[str, Vector] = {} if shelf is None else await shelf.find(texts)
        missing = [text for text in texts if text not in free]
        outcome = _outcome(shelf, missing)
        making = partial(self._make, model, request, shelf, call, name_outcome(outcome))
        made = Embedded()
        if shelf is None or not shelf.permission.may_read:
            await making(missing, made)
        else:
            # Nothing is awaited from here until what is missing is promised.
            promised = self._under_way.find(map(shelf.names.__getitem__, missing))
            await making([text for text in missing if shelf.names[text] not in promised], made)
            given = await wait_for(promised, call.remaining_s())
            free |= {text: given[shelf.names[text]] for text in missing if shelf.names[text] in given}
            await making([text for text in missing if text not in free and text not in made.vectors], made)
            if given and not made.vectors:
                outcome = pb.CACHE_OUTCOME_COALESCED
        if free:
            self._note_vectors(model, sum(vector.tokens for vector in free.values()), call)
        vectors = {text: vector.packed for text, vector in (free | made.vectors).items()}
        (size, *others) = {len(packed) for packed in vectors.values()}
        if others:
            raise failures.interrupted(model.provider, model.id, "its vectors are not all of one length")
        return EmbedResponse(
            vectors=b"".join(vectors[text] for text in request.texts),
            dimension=size // 4,
            model=model.id,
            usage=made.usage,
            cache=outcome,
            cached_texts=sum(text in free for text in request.texts),
        )

    async def _make(
        self,
        model: Model,
        request: EmbedRequest,
        shelf: "_Shelf | None",
        call: Call,
        cache: str,
        texts: Sequence[str],
        made: Embedded,
    ) -> None:
        """Embeds texts, adds them to what was made, and keeps them; raises what a call ended with."""
        if not texts:
            return
        with self._under_way.promise(shelf.names[text] for text in texts if shelf is not None) as promises:
            embedded = await self._embedding.embed(
                model, texts, request.dimensions, request.budget, call, cache=cache
            )
            made.add(embedded)
            if shelf is not None:
                for text, vector in embedded.vectors.items():
                    if (promise := promises.get(shelf.names[text])) is not None:
                        promise.set_result(vector)
                # Promised until it is kept: who comes meanwhile finds the one or the other.
                await shelf.keep(embedded.vectors)
        if embedded.failure is not None:
            raise embedded.failure

    def _open(self, model: Model, request: EmbedRequest, texts: Sequence[str], call: Call) -> "_Shelf | None":
        caching = model.vector_caching
        permission = _permit(request.cache_control) if caching is not None else NOTHING
        if self._store is None or caching is None or not permission.may_write:
            return None
        dimension = request.dimensions or model.dimension
        return _Shelf(
            store=self._store,
            caching=caching,
            permission=permission,
            tenant=call.tenant,
            names=_name_all(texts, model, dimension, call.tenant),
            size=4 * dimension,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shelf:
    """Where one request's vectors are looked for and kept; a store that is away is done without.

    Attributes:
        names: By the text.
        size: Bytes of a vector; 0 where the model's length is not known.
    """

    store: VectorStore
    caching: VectorCaching
    permission: Permission
    tenant: str
    names: Mapping[str, str]
    size: int

    async def find(self, texts: Sequence[str]) -> dict[str, Vector]:
        """What is kept of the texts."""
        if not self.permission.may_read:
            return {}
        try:
            kept = await self.store.find(self.tenant, [self.names[text] for text in texts])
        except StoreUnavailableError:
            return {}
        pairs = zip(texts, map(self._read, kept), strict=True)
        return {text: vector for text, vector in pairs if vector is not None}

    async def keep(self, vectors: Mapping[str, Vector]) -> None:
        """Keeps vectors that were made."""
        items = {
            self.names[text]: _TOKENS.pack(vector.tokens) + vector.packed
            for text, vector in vectors.items()
            if self._is_right(vector.packed)
        }
        if not items:
            return
        caching = self.caching
        try:
            await self.store.keep(
                self.tenant, items, ttl_s=caching.ttl_s, max_tenant_bytes=caching.max_tenant_bytes
            )
        except StoreUnavailableError as error:
            log.debug("vectors are not kept: %s", error)

    def _read(self, kept: bytes | None) -> Vector | None:
        if kept is None or not self._is_right(kept[_TOKENS.size :]):
            return None
        return Vector(packed=kept[_TOKENS.size :], tokens=_TOKENS.unpack_from(kept)[0])

    def _is_right(self, packed: bytes) -> bool:
        return len(packed) == self.size if self.size else len(packed) > 0


def _outcome(shelf: _Shelf | None, missing: Sequence[str]) -> pb.CacheOutcome.ValueType:
    if shelf is None:
        return pb.CACHE_OUTCOME_BYPASS
    return pb.CACHE_OUTCOME_MISS if missing else pb.CACHE_OUTCOME_EXACT_HIT


def _permit(cache_control: str) -> Permission:
    """As for answers: `no-store` forbids all, `no-cache` only the reading."""
    if cache_control == "no-store":
        return NOTHING
    return Permission(may_read=cache_control != "no-cache", may_write=True)


def _name_all(texts: Sequence[str], model: Model, dimension: int, tenant: str) -> dict[str, str]:
    """By each text a hash of all that affects its vector, of 32 hex digits."""
    common = hashlib.blake2b(digest_size=16)
    add_parts(common, tenant.encode(), model.id.encode(), model.upstream.encode(), str(dimension).encode())
    names: dict[str, str] = {}
    for text in texts:
        digest = common.copy()
        add_parts(digest, text.encode(errors="surrogatepass"))
        names[text] = digest.hexdigest()
    return names
