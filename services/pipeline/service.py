from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from quartet.common.v1 import generation_pb2, stage_pb2
from quartet.pipeline.v1 import pipeline_pb2 as pb
from services.kit.call import Call
from services.kit.errors import NotFound
from services.pipeline.domain.collection import DEFAULT, Collection
from services.pipeline.domain.library import Library
from services.pipeline.domain.pipeline import Pipeline
from services.pipeline.domain.question import Question, read_question
from services.pipeline.domain.retrieval import Retriever
from services.pipeline.domain.stages.work import Work
from services.pipeline.service_documents import DocumentMethods, Documents


class PipelineService(DocumentMethods):
    """The contract `quartet.pipeline.v1.PipelineService`; the rpcs for documents are inherited."""

    def __init__(
        self,
        *,
        pipelines: Mapping[str, Pipeline],
        library: Library,
        retriever: Retriever,
        documents: Documents,
    ) -> None:
        super().__init__(documents)
        self._pipelines = pipelines
        self._library = library
        self._retriever = retriever

    async def run(self, request: pb.RunRequest, call: Call) -> pb.RunResponse:
        response = pb.RunResponse()
        pipeline, work = await self._prepare(request.input, call)
        async with aclosing(pipeline.run(work, streaming=False)) as events:
            async for event in events:
                if isinstance(event, stage_pb2.StageReport):
                    response.stages.append(event)
                elif isinstance(event, generation_pb2.Completion):
                    response.completion.CopyFrom(event)
        return response

    async def stream_run(
        self, request: pb.StreamRunRequest, call: Call
    ) -> AsyncGenerator[pb.StreamRunResponse]:
        pipeline, work = await self._prepare(request.input, call)
        async with aclosing(pipeline.run(work, streaming=True)) as events:
            async for event in events:
                if isinstance(event, generation_pb2.Delta):
                    yield pb.StreamRunResponse(delta=event)
                elif isinstance(event, stage_pb2.StageReport):
                    yield pb.StreamRunResponse(stage=event)
                else:
                    yield pb.StreamRunResponse(end=event)

    async def retrieve(self, request: pb.RetrieveRequest, call: Call) -> pb.RetrieveResponse:
        found = await self._retriever.retrieve(
            await self._library.open(call.tenant, request.collection),
            request.query,
            top_k=request.top_k if request.HasField("top_k") else None,
            threshold=request.threshold if request.HasField("threshold") else None,
            cache_control=request.cache_control,
            call=call,
        )
        return pb.RetrieveResponse(passages=found.passages, usage=found.usage)

    async def list_pipelines(self, request: pb.ListPipelinesRequest, call: Call) -> pb.ListPipelinesResponse:
        del request, call
        return pb.ListPipelinesResponse(
            pipelines=[pipeline.to_proto() for pipeline in self._pipelines.values()]
        )

    async def _prepare(self, asked: pb.PipelineInput, call: Call) -> tuple[Pipeline, Work]:
        pipeline = self._pipelines.get(asked.pipeline)
        if pipeline is None:
            raise NotFound(
                f"There is no pipeline {asked.pipeline!r}: there are {', '.join(self._pipelines)}.",
                reason="PIPELINE_NOT_FOUND",
                metadata={"pipeline": asked.pipeline},
            )
        question = read_question(asked.messages)
        collection = await self._collection(asked.collection, question, call)
        return pipeline, Work(call=call, input=asked, question=question, collection=collection)

    async def _collection(self, name: str, question: Question, call: Call) -> Collection | None:
        # A request that brings its own documents needs no collection, unless it names one.
        if question.documents and not name:
            return None
        if question.documents and name == DEFAULT:
            return await self._library.find(call.tenant, name)
        return await self._library.open(call.tenant, name)
