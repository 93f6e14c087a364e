"""Small services that stand where the router, the pipeline, the orchestrator and the key store would."""

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from quartet.common.v1 import (
    decision_pb2,
    document_pb2,
    generation_pb2,
    message_pb2,
    run_pb2,
    stage_pb2,
)
from quartet.orchestrator.v1 import orchestrator_pb2
from quartet.pipeline.v1 import pipeline_pb2
from quartet.router.v1 import router_pb2
from services.gateway.domain.keys import ApiKey
from services.gateway.domain.tenants import Tenant
from services.kit.call import Call
from services.kit.errors import NotFound, QuartetError

MODEL = "gpt-6-luna"
USAGE = generation_pb2.Usage(input_tokens=11, output_tokens=4, cost_micro_usd=42, model_calls=1)
CITATION = message_pb2.Citation(
    document_id="d1",
    chunk_id="c1",
    title="Handbook",
    quote="The moon is far.",
    start_char=10,
    end_char=26,
    score=0.5,
    answer_start_char=0,
    answer_end_char=16,
    index=1,
    collection="docs",
)


def model_decision() -> decision_pb2.Decision:
    return decision_pb2.Decision(
        route="simple_faq",
        intent="simple_faq",
        confidence=1,
        rule="greeting",
        handler=decision_pb2.Handler(model=MODEL),
        model=MODEL,
        cache=decision_pb2.CACHE_OUTCOME_MISS,
    )


def say(*texts: str) -> list[generation_pb2.Delta]:
    return [generation_pb2.Delta(text=text) for text in texts]


def complete(
    *parts: message_pb2.Part, finish: generation_pb2.FinishReason.ValueType | None = None
) -> generation_pb2.Completion:
    message = message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, parts=parts) if parts else None
    return generation_pb2.Completion(
        message=message,
        finish_reason=generation_pb2.FINISH_REASON_STOP if finish is None else finish,
        usage=USAGE,
        model=MODEL,
    )


@dataclass(slots=True)
class FakeRouter:
    """Answers as it is told and keeps what it was asked."""

    decision: decision_pb2.Decision = field(default_factory=model_decision)
    deltas: list[generation_pb2.Delta] = field(default_factory=lambda: say("Hello", " there"))
    completion: generation_pb2.Completion = field(
        default_factory=lambda: complete(message_pb2.Part(text="Hello there"))
    )
    error: QuartetError | None = None
    error_after: int | None = None
    """Deltas to be sent before the error; None raises it at once."""
    pause: asyncio.Event | None = None
    """Waited for before a whole answer, and after each delta."""
    hold_back: asyncio.Event | None = None
    """Waited for before a stream's first event."""
    prompts: list[router_pb2.Prompt] = field(default_factory=list)
    embeddings: list[router_pb2.EmbedRequest] = field(default_factory=list)
    outcomes: list[router_pb2.RecordOutcomeRequest] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    undeletable: QuartetError | None = None
    listings: int = 0
    """How often it told its models."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def route(self, request: router_pb2.RouteRequest, call: Call) -> router_pb2.RouteResponse:
        self._keep(request.prompt, call)
        return router_pb2.RouteResponse(decision=self.decision)

    async def generate(self, request: router_pb2.GenerateRequest, call: Call) -> router_pb2.GenerateResponse:
        self._keep(request.prompt, call)
        if self.error is not None:
            raise self.error
        if self.pause is not None:
            try:
                await self.pause.wait()
            finally:
                self.closed.set()
        if self.decision.handler.WhichOneof("kind") != "model":
            return router_pb2.GenerateResponse(decision=self.decision)
        return router_pb2.GenerateResponse(decision=self.decision, completion=self.completion)

    async def stream_generate(
        self, request: router_pb2.StreamGenerateRequest, call: Call
    ) -> AsyncIterator[router_pb2.StreamGenerateResponse]:
        self._keep(request.prompt, call)
        try:
            if self.hold_back is not None:
                await self.hold_back.wait()
            if self.error is not None and self.error_after is None:
                raise self.error
            yield router_pb2.StreamGenerateResponse(decision=self.decision)
            if self.decision.handler.WhichOneof("kind") != "model":
                return
            for number, delta in enumerate(self.deltas):
                if self.error is not None and number == self.error_after:
                    raise self.error
                yield router_pb2.StreamGenerateResponse(delta=delta)
                if self.pause is not None:
                    await self.pause.wait()
            end = generation_pb2.Completion()
            end.CopyFrom(self.completion)
            end.ClearField("message")
            yield router_pb2.StreamGenerateResponse(end=end)
        finally:
            self.closed.set()

    async def record_outcome(
        self, request: router_pb2.RecordOutcomeRequest, call: Call
    ) -> router_pb2.RecordOutcomeResponse:
        self.calls.append(call)
        self.outcomes.append(request)
        return router_pb2.RecordOutcomeResponse()

    async def compare_policies(
        self, request: router_pb2.ComparePoliciesRequest, call: Call
    ) -> router_pb2.ComparePoliciesResponse:
        self.calls.append(call)
        row = router_pb2.PolicyComparison(route="complex", decisions=10, disagreements=4)
        return router_pb2.ComparePoliciesResponse(routes=[row])

    async def delete_tenant_data(
        self, _: router_pb2.DeleteTenantDataRequest, call: Call
    ) -> router_pb2.DeleteTenantDataResponse:
        if self.undeletable is not None:
            raise self.undeletable
        self.deleted.append(call.tenant)
        return router_pb2.DeleteTenantDataResponse(deleted_rows=1)

    async def embed(self, request: router_pb2.EmbedRequest, call: Call) -> router_pb2.EmbedResponse:
        self.calls.append(call)
        self.embeddings.append(request)
        vectors = b"".join(struct.pack("<2f", len(text), 0.5) for text in request.texts)
        return router_pb2.EmbedResponse(
            vectors=vectors,
            dimension=2,
            model="local/minilm",
            usage=USAGE,
            cache=decision_pb2.CACHE_OUTCOME_MISS,
            cached_texts=1,
        )

    async def list_models(self, _: router_pb2.ListModelsRequest, call: Call) -> router_pb2.ListModelsResponse:
        self.listings += 1
        model = router_pb2.Model(
            id=MODEL,
            provider="openai",
            aliases=["luna"],
            context_window=1000,
            max_output_tokens=100,
            capabilities=["tools"],
            input_micro_usd_per_mtok=100_000,
            available=True,
        )
        model.longer_prices.add(above_input_tokens=500, input_micro_usd_per_mtok=200_000)
        model.shutdown_time.FromJsonString("2030-01-14T00:00:00Z")
        return router_pb2.ListModelsResponse(models=[model], routes=["simple_faq"])

    def _keep(self, prompt: router_pb2.Prompt, call: Call) -> None:
        self.asked.set()
        self.prompts.append(prompt)
        self.calls.append(call)


@dataclass(slots=True)
class FakePipeline:
    """Answers every run with one cited sentence."""

    speaks: bool = True
    """False sends no deltas, as a run that a stage ended."""
    inputs: list[pipeline_pb2.PipelineInput] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    """Of the runs."""
    pieces: list[pipeline_pb2.IngestDocumentsRequest] = field(default_factory=list)
    searches: list[pipeline_pb2.RetrieveRequest] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    collection: str = "docs"
    """Of everything that is asked for by its id."""
    tenants: list[str] = field(default_factory=list)
    listed: list[pipeline_pb2.ListCollectionsRequest] = field(default_factory=list)
    pause: asyncio.Event | None = None
    """Waited for after each state of a job."""

    async def run(self, request: pipeline_pb2.RunRequest, call: Call) -> pipeline_pb2.RunResponse:
        self.inputs.append(request.input)
        self.calls.append(call)
        return pipeline_pb2.RunResponse(completion=_cited(), stages=[stage_pb2.StageReport(stage="retrieve")])

    async def stream_run(
        self, request: pipeline_pb2.StreamRunRequest, call: Call
    ) -> AsyncIterator[pipeline_pb2.StreamRunResponse]:
        self.inputs.append(request.input)
        yield pipeline_pb2.StreamRunResponse(stage=stage_pb2.StageReport(stage="retrieve"))
        if self.speaks:
            for delta in say("The moon", " is far."):
                yield pipeline_pb2.StreamRunResponse(delta=delta)
        yield pipeline_pb2.StreamRunResponse(end=_cited())

    async def retrieve(
        self, request: pipeline_pb2.RetrieveRequest, call: Call
    ) -> pipeline_pb2.RetrieveResponse:
        self.searches.append(request)
        if request.collection == "missing":
            raise NotFound("there is no collection missing", reason="COLLECTION_NOT_FOUND")
        passage = message_pb2.Passage(document_id="d1", text=request.query, collection=request.collection)
        return pipeline_pb2.RetrieveResponse(passages=[passage])

    async def list_pipelines(
        self, _: pipeline_pb2.ListPipelinesRequest, call: Call
    ) -> pipeline_pb2.ListPipelinesResponse:
        return pipeline_pb2.ListPipelinesResponse(pipelines=[pipeline_pb2.Pipeline(name="rag_answer")])

    async def list_collections(
        self, request: pipeline_pb2.ListCollectionsRequest, call: Call
    ) -> pipeline_pb2.ListCollectionsResponse:
        self.tenants.append(call.tenant)
        self.listed.append(request)
        return pipeline_pb2.ListCollectionsResponse(collections=[document_pb2.Collection(name="docs")])

    async def get_document(
        self, request: pipeline_pb2.GetDocumentRequest, call: Call
    ) -> pipeline_pb2.GetDocumentResponse:
        document = document_pb2.Document(id=request.document_id, collection=self.collection)
        return pipeline_pb2.GetDocumentResponse(document=document)

    async def delete_document(
        self, request: pipeline_pb2.DeleteDocumentRequest, call: Call
    ) -> pipeline_pb2.DeleteDocumentResponse:
        self.deleted.append(request.document_id)
        return pipeline_pb2.DeleteDocumentResponse()

    async def get_ingest_job(
        self, request: pipeline_pb2.GetIngestJobRequest, call: Call
    ) -> pipeline_pb2.GetIngestJobResponse:
        job = document_pb2.IngestJob(id=request.job_id, collection=self.collection)
        return pipeline_pb2.GetIngestJobResponse(job=job)

    async def cancel_ingest_job(
        self, request: pipeline_pb2.CancelIngestJobRequest, call: Call
    ) -> pipeline_pb2.CancelIngestJobResponse:
        self.deleted.append(request.job_id)
        return pipeline_pb2.CancelIngestJobResponse()

    async def delete_tenant_data(
        self, _: pipeline_pb2.DeleteTenantDataRequest, call: Call
    ) -> pipeline_pb2.DeleteTenantDataResponse:
        self.deleted.append(call.tenant)
        return pipeline_pb2.DeleteTenantDataResponse(deleted_rows=1)

    async def ingest_documents(
        self, requests: AsyncIterator[pipeline_pb2.IngestDocumentsRequest], call: Call
    ) -> pipeline_pb2.IngestDocumentsResponse:
        async for request in requests:
            self.pieces.append(request)
        return pipeline_pb2.IngestDocumentsResponse(job=document_pb2.IngestJob(id="j1"))

    async def watch_ingest_job(
        self, request: pipeline_pb2.WatchIngestJobRequest, call: Call
    ) -> AsyncIterator[pipeline_pb2.WatchIngestJobResponse]:
        for done in (0, 1):
            job = document_pb2.IngestJob(id=request.job_id, done_documents=done)
            yield pipeline_pb2.WatchIngestJobResponse(job=job)
            if self.pause is not None:
                await self.pause.wait()
        raise NotFound("the job is gone", reason="JOB_NOT_FOUND")


@dataclass(slots=True)
class FakeOrchestrator:
    """Runs every task in one iteration."""

    tasks: list[run_pb2.Task] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    """Of the tasks."""
    deleted: list[str] = field(default_factory=list)
    collection: str = "docs"
    """Of everything that is asked for by its id."""
    keys: list[str] = field(default_factory=list)
    listed: list[orchestrator_pb2.ListRunsRequest] = field(default_factory=list)
    pause: asyncio.Event | None = None
    """Waited for before a run is started, and after a watched run's first event."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a run is to be started."""

    async def start_run(
        self, request: orchestrator_pb2.StartRunRequest, call: Call
    ) -> orchestrator_pb2.StartRunResponse:
        self.tasks.append(request.task)
        self.calls.append(call)
        self.asked.set()
        if self.pause is not None:
            await self.pause.wait()
        return orchestrator_pb2.StartRunResponse(run=run_pb2.Run(id="r1", task=request.task))

    async def get_run(
        self, request: orchestrator_pb2.GetRunRequest, call: Call
    ) -> orchestrator_pb2.GetRunResponse:
        run = run_pb2.Run(id=request.run_id, task=run_pb2.Task(collection=self.collection))
        return orchestrator_pb2.GetRunResponse(run=run)

    async def list_runs(
        self, request: orchestrator_pb2.ListRunsRequest, call: Call
    ) -> orchestrator_pb2.ListRunsResponse:
        self.listed.append(request)
        return orchestrator_pb2.ListRunsResponse()

    async def watch_run(
        self, request: orchestrator_pb2.WatchRunRequest, call: Call
    ) -> AsyncIterator[orchestrator_pb2.WatchRunResponse]:
        yield orchestrator_pb2.WatchRunResponse(event=run_pb2.RunEvent(number=1))
        if self.pause is not None:
            await self.pause.wait()

    async def cancel_run(
        self, request: orchestrator_pb2.CancelRunRequest, call: Call
    ) -> orchestrator_pb2.CancelRunResponse:
        self.deleted.append(request.run_id)
        return orchestrator_pb2.CancelRunResponse()

    async def delete_tenant_data(
        self, _: orchestrator_pb2.DeleteTenantDataRequest, call: Call
    ) -> orchestrator_pb2.DeleteTenantDataResponse:
        self.deleted.append(call.tenant)
        return orchestrator_pb2.DeleteTenantDataResponse(deleted_rows=1)

    async def stream_execute(
        self, request: orchestrator_pb2.StreamExecuteRequest, call: Call
    ) -> AsyncIterator[orchestrator_pb2.StreamExecuteResponse]:
        self.tasks.append(request.task)
        self.calls.append(call)
        self.keys.append(request.idempotency_key)
        run = run_pb2.Run(
            id="r1",
            state=run_pb2.RUN_STATE_SUCCEEDED,
            stop_reason=run_pb2.STOP_REASON_DONE,
            completion=_cited(),
        )
        for number, event in enumerate(
            (
                run_pb2.RunEvent(started=run_pb2.RunStarted(task=request.task)),
                run_pb2.RunEvent(plan=run_pb2.PlanMade(iteration=1)),
                run_pb2.RunEvent(ended=run_pb2.RunEnded(run=run)),
            ),
            start=1,
        ):
            event.number = number
            yield orchestrator_pb2.StreamExecuteResponse(event=event)


class FakeKeys:
    """A store of keys and their tenants that counts its look-ups."""

    def __init__(self, *keys: ApiKey) -> None:
        self.keys = {key.id: key for key in keys}
        self.tenants = {key.tenant for key in keys}
        self.looked_up: list[str] = []
        self.looked_up_tenants: list[str] = []

    async def find(self, key_id: str) -> ApiKey | None:
        self.looked_up.append(key_id)
        return self.keys.get(key_id)

    async def find_tenant(self, tenant: str) -> Tenant | None:
        self.looked_up_tenants.append(tenant)
        return Tenant(id=tenant) if tenant in self.tenants else None

    async def live_keys(self, key_ids: Sequence[str]) -> set[str]:
        now = datetime.now(UTC)
        return {key.id for key in self.keys.values() if key.id in key_ids and key.is_live(now)}

    async def live_tenants(self, tenants: Sequence[str]) -> set[str]:
        return self.tenants & set(tenants)


def _cited() -> generation_pb2.Completion:
    return complete(message_pb2.Part(text="The moon is far.", citations=[CITATION]))
