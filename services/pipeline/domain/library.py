from quartet.common.v1 import document_pb2
from services.kit.call import Call
from services.kit.errors import AlreadyExists
from services.pipeline.domain.collection import DEFAULT, Collection, unknown_collection
from services.pipeline.domain.embedding import Embedder
from services.pipeline.ports import CollectionStore

PROBE = "dimension"
"""Embedded once when a collection is made, to learn the model's id and the length of its vectors."""
PROBE_TIMEOUT_S = 60.0


class Library:
    """A tenant's collections: found, or made with what their embedding model needs."""

    def __init__(self, store: CollectionStore, embedder: Embedder) -> None:
        self._store = store
        self._embedder = embedder

    async def open(self, tenant: str, name: str) -> Collection:
        """The collection by name, empty for `default`; raises NotFound saying how to make it."""
        collection = await self.find(tenant, name)
        if collection is None:
            raise unknown_collection(name or DEFAULT)
        return collection

    async def find(self, tenant: str, name: str) -> Collection | None:
        """The collection by name, empty for `default`; None when there is none."""
        return await self._store.find(tenant, name or DEFAULT)

    async def ensure(self, tenant: str, name: str, call: Call) -> Collection:
        """The collection by name, made with the default embedding model where it is missing."""
        return await self._store.find(tenant, name) or await self._make(tenant, name, "", "", call)

    async def create(self, tenant: str, wanted: document_pb2.Collection, call: Call) -> Collection:
        """Makes a collection; the same settings again give what is there, other ones raise AlreadyExists."""
        found = await self._store.find(tenant, wanted.name)
        if found is None:
            found = await self._make(tenant, wanted.name, wanted.embedding_model, wanted.description, call)
        elif wanted.embedding_model and wanted.embedding_model != found.embedding_model:
            # The name may be an alias of the model that is there.
            probe = await self._embedder.embed(
                [PROBE], model=wanted.embedding_model, call=call, timeout_s=PROBE_TIMEOUT_S
            )
            if probe.model != found.embedding_model:
                raise _differs(found, "embedding_model", found.embedding_model)
        if wanted.description != found.description:
            raise _differs(found, "description", found.description)
        return found

    async def _make(self, tenant: str, name: str, model: str, description: str, call: Call) -> Collection:
        probe = await self._embedder.embed([PROBE], model=model, call=call, timeout_s=PROBE_TIMEOUT_S)
        self._embedder.figures(probe.model)
        return await self._store.create(
            tenant,
            name,
            embedding_model=probe.model,
            dimension=probe.vectors.shape[1],
            description=description,
        )


def _differs(found: Collection, field: str, value: str) -> AlreadyExists:
    return AlreadyExists(
        f"The collection {found.name!r} exists with {field} {value!r}: ask for that, use another name, "
        "or delete the collection first.",
        reason="COLLECTION_EXISTS",
        metadata={"collection": found.name, "field": field},
    )
