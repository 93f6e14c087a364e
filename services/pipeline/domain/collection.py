from dataclasses import dataclass
from datetime import datetime

from quartet.common.v1 import document_pb2
from services.kit.errors import NotFound
from services.pipeline.domain.moments import timestamp

DEFAULT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A tenant's collection as it is stored."""

    id: int
    tenant: str
    name: str
    embedding_model: str
    dimension: int
    description: str
    document_count: int
    chunk_count: int
    created_at: datetime

    def to_proto(self) -> document_pb2.Collection:
        """As the contract shows it."""
        return document_pb2.Collection(
            name=self.name,
            embedding_model=self.embedding_model,
            description=self.description,
            document_count=self.document_count,
            chunk_count=self.chunk_count,
            create_time=timestamp(self.created_at),
        )


def unknown_collection(name: str) -> NotFound:
    """The error for a collection that is not there."""
    return NotFound(
        f"There is no collection {name!r}: make it with `quartet ingest PATH --collection {name}`.",
        reason="COLLECTION_NOT_FOUND",
        metadata={"collection": name},
    )
