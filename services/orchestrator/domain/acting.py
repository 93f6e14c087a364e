"""Steps carried out by the router and the pipeline, and judged."""

from contextlib import aclosing

from quartet.common.v1 import generation_pb2, run_pb2
from quartet.pipeline.v1 import pipeline_pb2
from quartet.router.v1 import router_pb2
from services.kit.call import Call
from services.kit.errors import Internal
from services.orchestrator.domain.addressing import address
from services.orchestrator.domain.judge import judge_answer, judge_retrieval
from services.orchestrator.domain.progress import Progress
from services.orchestrator.domain.prompts import step_prompt, synthesis_prompt
from services.orchestrator.domain.synthesis import Gathering, text_of, with_citations
from services.orchestrator.ports import Deltas, Pipeline, Router

TOP_K, MAX_TOP_K = 5, 40
"""Passages asked for at first; doubled with each further try, up to the maximum."""
OPEN_THRESHOLD = 0.0
"""From the second new try on even far passages are read; before, the embedder's own floor holds."""

Acted = tuple[run_pb2.StepResult, generation_pb2.Completion]


class Actor:
    """Does one step at a time; every model call carries the run's id and the key `RUN/STEP`."""

    def __init__(self, router: Router, pipeline: Pipeline, deltas: Deltas) -> None:
        self._router = router
        self._pipeline = pipeline
        self._deltas = deltas

    async def act(self, run_id: str, step: run_pb2.Step, progress: Progress, call: Call) -> Acted:
        """The step's result, judged, and the completion behind it.

        Raises:
            QuartetError: as the peer answered.
        """
        if step.kind == run_pb2.STEP_KIND_RETRIEVAL:
            return await self._retrieve(step, progress, call)
        passages = progress.passages(_retrievals_behind(step, progress))
        if step.kind == run_pb2.STEP_KIND_SYNTHESIS:
            partial = not progress.plans or step.id not in {known.id for known in progress.plans[-1].steps}
            prompt = synthesis_prompt(progress, passages, partial=partial)
            completion = await self._stream(address(prompt, run_id, step.id, progress), run_id, call)
        else:
            prompt = address(step_prompt(step, passages), run_id, step.id, progress)
            response = await self._router.generate(router_pb2.GenerateRequest(prompt=prompt), call.outgoing())
            completion = response.completion
        return _judged(step, with_citations(completion, passages))

    async def _retrieve(self, step: run_pb2.Step, progress: Progress, call: Call) -> Acted:
        before = progress.lineage(step)
        tries = len(before)
        request = pipeline_pb2.RetrieveRequest(
            collection=progress.task.collection,
            query=step.input,
            top_k=min(MAX_TOP_K, TOP_K * 2**tries),
            cache_control=progress.task.cache_control,
        )
        if tries >= 2:
            request.threshold = OPEN_THRESHOLD
        response = await self._pipeline.retrieve(request, call.outgoing())
        # All that is known for the need counts, not what this query found alone.
        known = [*response.passages, *(passage for result in before for passage in result.passages)]
        judgement = judge_retrieval(progress.need(step), known)
        documents = len({passage.document_id for passage in response.passages})
        result = run_pb2.StepResult(
            step=step,
            output=f"{len(response.passages)} passages of {documents} documents",
            confidence=judgement.confidence,
            passages=response.passages,
            usage=response.usage,
            judgement=judgement.because,
        )
        return result, generation_pb2.Completion()

    async def _stream(self, prompt: router_pb2.Prompt, run_id: str, call: Call) -> generation_pb2.Completion:
        gathering = Gathering()
        completion = None
        request = router_pb2.StreamGenerateRequest(prompt=prompt)
        stream = self._router.stream_generate(request, call.outgoing())
        async with self._deltas.publish(run_id) as sink, aclosing(stream) as events:
            async for event in events:
                match event.WhichOneof("event"):
                    case "delta":
                        gathering.add(event.delta)
                        await sink.put(event.delta)
                    case "end":
                        # Read on to the stream's end: one that is left counts as cancelled in its trace.
                        completion = gathering.finish(event.end)
        if completion is None:
            raise Internal("the router's stream ended without its end: try again")
        return completion


def _retrievals_behind(step: run_pb2.Step, progress: Progress) -> list[str]:
    """The retrievals that a step reads, also through the analyses that it reads."""
    found: list[str] = []
    for name in step.depends_on:
        result = progress.result(name)
        if result is None:
            continue
        if result.step.kind == run_pb2.STEP_KIND_RETRIEVAL:
            found.append(name)
        else:
            found.extend(_retrievals_behind(result.step, progress))
    return list(dict.fromkeys(found))


def _judged(step: run_pb2.Step, completion: generation_pb2.Completion) -> Acted:
    judgement = judge_answer(step.input, completion)
    result = run_pb2.StepResult(
        step=step,
        output=text_of(completion),
        confidence=judgement.confidence,
        usage=completion.usage,
        judgement=judgement.because,
    )
    return result, completion
