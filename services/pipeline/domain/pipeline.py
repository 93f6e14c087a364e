import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from opentelemetry.trace import Span, Status, StatusCode, use_span

from quartet.common.v1 import generation_pb2, message_pb2, stage_pb2
from quartet.pipeline.v1 import pipeline_pb2
from services.kit import names
from services.kit.errors import QuartetError
from services.kit.telemetry import tracer
from services.pipeline.domain.configuration import PipelineDeclaration
from services.pipeline.domain.stages.validate import ValidateStage
from services.pipeline.domain.stages.work import Outcome, Slot, Stage, StreamingStage, Work

ASKED = frozenset({Slot.QUESTION})
"""What a run brings along."""

Event = stage_pb2.StageReport | generation_pb2.Delta | generation_pb2.Completion


class StageContractError(Exception):
    """A stage stands where its needs are not met.

    Attributes:
        index: Its place in the pipeline, counted from 0.
    """

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


class Pipeline:
    """Stages in a fixed order, whose contracts were checked when it was made.

    Raises:
        StageContractError: a stage needs what no earlier one gives, or gives what is there; or none answers.
    """

    def __init__(self, name: str, settings: PipelineDeclaration, stages: Sequence[Stage]) -> None:
        self.name = name
        self.settings = settings
        self._stages = tuple(stages)
        _check_contracts(self._stages)
        self._holds_back = any(isinstance(stage, ValidateStage) and stage.can_abort for stage in stages)

    def to_proto(self) -> pipeline_pb2.Pipeline:
        """As the contract lists it."""
        return pipeline_pb2.Pipeline(
            name=self.name,
            description=self.settings.description,
            stages=[
                pipeline_pb2.Stage(name=stage.kind, settings_json=stage.model_dump_json(exclude={"kind"}))
                for stage in self.settings.stages
            ],
        )

    async def run(self, work: Work, *, streaming: bool) -> AsyncGenerator[Event]:
        """Runs the stages: a report as each ends, deltas between them when streaming, the completion last.

        Deltas are held back until the end where a later stage may still refuse the answer.
        """
        held: list[generation_pb2.Delta] = []
        for stage in self._stages:
            began = time.perf_counter()
            span = self._start_span(stage, work)
            try:
                if streaming and isinstance(stage, StreamingStage):
                    async with aclosing(stage.stream(work)) as deltas:
                        while (delta := await _next(deltas, span)) is not None:
                            if self._holds_back:
                                held.append(delta)
                            else:
                                yield delta
                    outcome = stage.outcome(work)
                else:
                    with use_span(span, record_exception=False, set_status_on_exception=False):
                        outcome = await stage.process(work)
            except BaseException as error:
                _fail(span, error)
                raise
            finally:
                span.end()
            yield _report(stage, outcome, work, began)
            if outcome.abort_reason:
                if streaming:
                    yield generation_pb2.Delta(text=outcome.abort_reason)
                yield _aborted(work, outcome)
                return
        for delta in held:
            yield delta
        completion = work.completion or generation_pb2.Completion()
        completion.usage.CopyFrom(work.usage)
        yield completion

    def _start_span(self, stage: Stage, work: Work) -> Span:
        source = work.collection.name if work.collection else "request"
        name = f"{names.RETRIEVAL} {source}" if stage.kind == "retrieve" else f"stage {stage.kind}"
        attributes = {names.PIPELINE: self.name, names.STAGE: stage.kind, names.COLLECTION: source}
        if stage.kind == "retrieve":
            attributes |= {names.GEN_AI_OPERATION: names.RETRIEVAL, names.GEN_AI_DATA_SOURCE: source}
        return tracer().start_span(name, attributes=attributes)


async def _next(deltas: AsyncGenerator[generation_pb2.Delta], span: Span) -> generation_pb2.Delta | None:
    # A generator's code runs in its reader's context: the span is current only while the reader waits for it.
    with use_span(span, record_exception=False, set_status_on_exception=False):
        return await anext(deltas, None)


def _check_contracts(stages: Sequence[Stage]) -> None:
    given: set[Slot] = set(ASKED)
    for index, stage in enumerate(stages):
        if missing := sorted(stage.needs - given):
            raise StageContractError(
                index, f"the stage {stage.kind!r} needs {', '.join(missing)}, which no earlier stage gives"
            )
        if doubled := sorted(stage.gives & given):
            raise StageContractError(
                index, f"the stage {stage.kind!r} gives {', '.join(doubled)}, which an earlier stage gave"
            )
        given |= stage.gives
    if Slot.COMPLETION not in given:
        raise StageContractError(len(stages) - 1, "no stage gives an answer: add a stage of kind 'generate'")


def _report(stage: Stage, outcome: Outcome, work: Work, began: float) -> stage_pb2.StageReport:
    return stage_pb2.StageReport(
        stage=stage.kind,
        duration_us=round((time.perf_counter() - began) * 1_000_000),
        summary=outcome.summary,
        abort_reason=outcome.abort_reason,
        checks=work.checks if Slot.CHECKS in stage.gives else None,
    )


def _aborted(work: Work, outcome: Outcome) -> generation_pb2.Completion:
    completion = generation_pb2.Completion(
        finish_reason=generation_pb2.FINISH_REASON_ABORTED,
        stop_detail=outcome.abort_reason,
        usage=work.usage,
        model=work.completion.model if work.completion else "",
    )
    completion.message.role = message_pb2.ROLE_ASSISTANT
    completion.message.parts.add(text=outcome.abort_reason)
    return completion


def _fail(span: Span, error: BaseException) -> None:
    status = error.status if isinstance(error, QuartetError) else type(error).__name__
    span.set_attribute(names.ERROR_TYPE, status)
    span.set_status(Status(StatusCode.ERROR, status))
