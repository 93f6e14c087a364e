"""A router of a few lines: embeds by hashing words, answers by a script, and remembers what it was asked."""

import hashlib
from collections.abc import AsyncGenerator, Sequence

import numpy as np

from quartet.common.v1 import decision_pb2, generation_pb2, message_pb2
from quartet.router.v1 import router_pb2 as pb
from services.kit.call import Call
from services.kit.errors import NotFound, QuartetError

DIMENSION = 384
MODEL = "local/minilm"


class FakeRouter:
    """Serves the router's contract without models.

    Args:
        answer: What it answers, or None to quote the first passage and cite it.
    """

    def __init__(self, answer: str | None = None) -> None:
        self.answer = answer
        self.prompts: list[pb.Prompt] = []
        self.models: list[tuple[str, ...] | None] = []
        self.embedded: list[str] = []
        self.embed_requests: list[pb.EmbedRequest] = []
        self.embed_failures: list[QuartetError] = []

    async def generate(self, request: pb.GenerateRequest, call: Call) -> pb.GenerateResponse:
        self.prompts.append(request.prompt)
        self.models.append(call.models)
        completion = self._completion()
        completion.message.role = message_pb2.ROLE_ASSISTANT
        completion.message.parts.add(text=self._text(request.prompt))
        return pb.GenerateResponse(completion=completion)

    async def stream_generate(
        self, request: pb.StreamGenerateRequest, call: Call
    ) -> AsyncGenerator[pb.StreamGenerateResponse]:
        self.prompts.append(request.prompt)
        self.models.append(call.models)
        yield pb.StreamGenerateResponse(
            decision=decision_pb2.Decision(route=request.prompt.target.route, model="fake")
        )
        for word in self._text(request.prompt).split(" "):
            yield pb.StreamGenerateResponse(delta=generation_pb2.Delta(text=f"{word} "))
        yield pb.StreamGenerateResponse(end=self._completion())

    async def embed(self, request: pb.EmbedRequest, call: Call) -> pb.EmbedResponse:
        if self.embed_failures:
            raise self.embed_failures.pop(0)
        if request.model not in {"", MODEL, "minilm"}:
            raise NotFound(f"there is no model {request.model!r}", reason="MODEL_NOT_FOUND")
        self.embedded.extend(request.texts)
        self.embed_requests.append(request)
        return pb.EmbedResponse(
            vectors=embed_by_hash(request.texts).tobytes(),
            dimension=DIMENSION,
            model=MODEL,
            usage=generation_pb2.Usage(input_tokens=len(request.texts), model_calls=1),
        )

    def _text(self, prompt: pb.Prompt) -> str:
        if self.answer is not None:
            return self.answer
        passages = [
            part.passage
            for message in prompt.messages
            for part in message.parts
            if part.WhichOneof("kind") == "passage"
        ]
        return f"{passages[0].text.split('. ')[0].rstrip('.')} [1]." if passages else "I cannot know."

    def _completion(self) -> generation_pb2.Completion:
        return generation_pb2.Completion(
            finish_reason=generation_pb2.FINISH_REASON_STOP,
            model="fake",
            usage=generation_pb2.Usage(input_tokens=100, output_tokens=10, model_calls=1),
        )


def embed_by_hash(texts: Sequence[str]) -> np.ndarray:
    """Bags of words, each word at a place of its own: texts that share words are near to each other."""
    vectors = np.zeros((len(texts), DIMENSION), dtype="<f4")
    for row, text in enumerate(texts):
        for word in text.lower().replace(".", " ").replace("?", " ").split():
            place = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest()) % DIMENSION
            vectors[row, place] += 1
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    normal: np.ndarray = vectors / np.maximum(norms, 1e-9)
    return normal.astype("<f4")
