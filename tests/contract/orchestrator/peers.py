"""Small neighbours with the contracts of the router and the pipeline, which answer from a small corpus."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, Mapping

from quartet.common.v1 import generation_pb2, message_pb2
from quartet.pipeline.v1 import pipeline_pb2
from quartet.router.v1 import router_pb2
from services.kit.call import Call
from services.kit.errors import NotFound, QuartetError

TOKENS_PER_CALL = 100


class WordPipeline:
    """Finds documents that hold enough of a query's words, as a share of all words of the query."""

    def __init__(self, corpus: Mapping[str, str], *, floor: float = 0.4) -> None:
        self.corpus = corpus
        self.floor = floor
        self.queries: list[str] = []
        self.cache_controls: list[str] = []
        self.delay_s = 0.0
        self.failures: list[QuartetError] = []

    async def retrieve(
        self, request: pipeline_pb2.RetrieveRequest, call: Call
    ) -> pipeline_pb2.RetrieveResponse:
        self.queries.append(request.query)
        self.cache_controls.append(request.cache_control)
        await asyncio.sleep(self.delay_s)
        if self.failures:
            raise self.failures.pop(0)
        if request.collection == "missing":
            raise NotFound("there is no collection `missing`", reason="COLLECTION_NOT_FOUND")
        wanted = request.query.lower().replace("?", "").split()
        found = []
        for title, text in self.corpus.items():
            words = set(f"{title} {text}".lower().replace(".", "").split())
            score = sum(word in words for word in wanted) / len(wanted)
            if score >= self.floor:
                found.append(
                    message_pb2.Passage(
                        document_id=title,
                        chunk_id=f"{title}#1",
                        title=title,
                        text=text,
                        end_char=len(text),
                        score=score,
                    )
                )
        found.sort(key=lambda passage: -passage.score)
        return pipeline_pb2.RetrieveResponse(passages=found[: request.top_k])


class QuotingRouter:
    """Answers by quoting the passages that it is given, one line and one marker each; counts calls by key."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.answers: dict[str, str] = {}
        self.prompts: list[router_pb2.Prompt] = []
        self.models: list[tuple[str, ...] | None] = []
        self.plans: list[str] = []
        self.delay_s = 0.0
        self.has_model = False
        self.waiting = asyncio.Event()
        self.given_up = asyncio.Event()

    async def generate(self, request: router_pb2.GenerateRequest, call: Call) -> router_pb2.GenerateResponse:
        self.models.append(call.models)
        return router_pb2.GenerateResponse(completion=await self._answer(request.prompt))

    async def stream_generate(
        self, request: router_pb2.StreamGenerateRequest, call: Call
    ) -> AsyncGenerator[router_pb2.StreamGenerateResponse, None]:
        self.models.append(call.models)
        completion = await self._answer(request.prompt)
        for word in completion.message.parts[0].text.split(" "):
            yield router_pb2.StreamGenerateResponse(delta=generation_pb2.Delta(text=f"{word} "))
            await asyncio.sleep(0)
        completion.ClearField("message")
        yield router_pb2.StreamGenerateResponse(end=completion)

    async def list_models(
        self, request: router_pb2.ListModelsRequest, call: Call
    ) -> router_pb2.ListModelsResponse:
        local = router_pb2.Model(id="local/extractive", provider="local", available=True)
        large = router_pb2.Model(id="large", provider="openai", available=self.has_model)
        return router_pb2.ListModelsResponse(models=[local, large])

    async def _answer(self, prompt: router_pb2.Prompt) -> generation_pb2.Completion:
        self.calls[prompt.idempotency_key] += 1
        self.prompts.append(prompt)
        self.waiting.set()
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.given_up.set()
            raise
        if prompt.spec.response_format.kind == generation_pb2.ResponseFormat.KIND_JSON_SCHEMA:
            text = self.plans.pop(0) if self.plans else "no plan"
        else:
            passages = [part.passage for part in prompt.messages[-1].parts if part.HasField("passage")]
            text = "\n".join(f"{passage.text} [{n}]" for n, passage in enumerate(passages, start=1))
        key = prompt.idempotency_key
        fingerprint = hashlib.sha256(prompt.SerializeToString(deterministic=True)).hexdigest()
        assert self.answers.setdefault(key, fingerprint) == fingerprint, "a key was used for two requests"
        usage = generation_pb2.Usage(
            input_tokens=TOKENS_PER_CALL - 10, output_tokens=10, model_calls=1, cost_micro_usd=5
        )
        message = message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=[message_pb2.Part(text=text)])
        return generation_pb2.Completion(
            message=message,
            usage=usage,
            model="large" if self.has_model else "local/extractive",
            finish_reason=generation_pb2.FINISH_REASON_STOP,
        )
