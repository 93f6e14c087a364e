"""The local embedding model behind the router's port."""

from services.kit.call import Call
from services.kit.errors import InvalidArgument
from services.router.adapters.minilm.embedder import MiniLMEmbedder
from services.router.ports import Batch, Vectors


class LocalEmbeddings:
    """Vectors of MiniLM; its tokens are counted and cost nothing."""

    def __init__(self, embedder: MiniLMEmbedder) -> None:
        self._embedder = embedder

    async def embed(self, batch: Batch, call: Call) -> Vectors:
        """Vectors of the model's own length: it cannot shorten them."""
        model = batch.model
        if batch.dimension not in (0, model.dimension):
            raise InvalidArgument.field("dimensions", f"{model.id} makes vectors of {model.dimension} only")
        embeddings = await self._embedder.embed(batch.texts, timeout_s=call.remaining_s())
        return Vectors(
            packed=embeddings.vectors,
            dimension=embeddings.dimension,
            input_tokens=sum(embeddings.token_counts),
        )
