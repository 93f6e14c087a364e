from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.pipeline.domain.document import RawDocument, ReadDocument

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
MAX_DOCUMENTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestItem:
    """A document that waits in a job."""

    job_id: str
    position: int
    tenant: str
    collection: str
    document: RawDocument
    metadata: dict[str, str]
    sha256: bytes
    cache_control: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedDocument:
    """A document that is ready to be stored.

    Attributes:
        vectors: A row for each chunk.
        recipe: How it was read, split and embedded; the same bytes by another recipe are stored anew.
    """

    document: ReadDocument
    vectors: NDArray[np.float32]
    recipe: str
