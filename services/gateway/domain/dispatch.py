"""One request to whichever handler serves it, and one kind of answer from all of them."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quartet.common.v1 import decision_pb2, generation_pb2, message_pb2, run_pb2, stage_pb2
from quartet.orchestrator.v1 import orchestrator_pb2
from quartet.pipeline.v1 import pipeline_pb2
from quartet.router.v1 import router_pb2
from services.gateway.domain.ending import end_once, ended_early
from services.gateway.domain.headers import NO_HEAD, Head
from services.gateway.domain.targets import DEFAULT_COLLECTION, Kind, Target
from services.kit.call import Call
from services.kit.errors import Aborted, InvalidArgument, from_proto

if TYPE_CHECKING:
    from services.gateway.ports import Orchestrator, Pipeline, Router

Event = (
    decision_pb2.Decision
    | generation_pb2.Delta
    | stage_pb2.StageReport
    | run_pb2.RunEvent
    | generation_pb2.Completion
)
"""What a streamed answer is made of: a decision, then deltas, stages and run events, last a completion. The
deltas hold all text; the completion's `message`, where it has one, adds the citations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer and how it came about."""

    decision: decision_pb2.Decision
    completion: generation_pb2.Completion
    stages: list[stage_pb2.StageReport] = field(default_factory=list)
    run: run_pb2.Run | None = None
    head: Head = NO_HEAD


@dataclass(slots=True, kw_only=True)
class RunTicket:
    """By which the orchestrator finds a run again whose asker was lost.

    Attributes:
        key: Empty for a run that ends with its asker.
        is_used: True once the orchestrator was asked; other handlers have no use for it.
    """

    key: str = ""
    is_used: bool = False

    @property
    def goes_on(self) -> bool:
        """Whether what was begun goes on when it is left."""
        return self.is_used and bool(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """What texts were turned into."""

    response: router_pb2.EmbedResponse
    head: Head = NO_HEAD


class Dispatcher:
    """Hands prompts to the router, and to the pipeline or the orchestrator where it or the caller says so."""

    def __init__(self, router: "Router", pipeline: "Pipeline", orchestrator: "Orchestrator") -> None:
        self._router = router
        self._pipeline = pipeline
        self._orchestrator = orchestrator

    async def generate(
        self, target: Target, prompt: router_pb2.Prompt, call: Call, ticket: RunTicket
    ) -> Answer:
        """The whole answer; raises what the handler raises."""
        if target.is_routed:
            _aim(prompt, target)
            response = await self._router.generate(router_pb2.GenerateRequest(prompt=prompt), call)
            decision = response.decision
            if response.HasField("completion"):
                return Answer(decision=decision, completion=response.completion)
            _hand_over(prompt, decision)
        else:
            decision = _named(target, prompt)
        handler = decision.handler
        if handler.WhichOneof("kind") == "pipeline":
            request = pipeline_pb2.RunRequest(input=_pipeline_input(handler.pipeline, prompt))
            ran = await self._pipeline.run(request, call)
            return Answer(decision=decision, completion=ran.completion, stages=list(ran.stages))
        answer = None
        async with aclosing(self._execute(handler.agent, prompt, call, ticket)) as events:
            async for event in events:
                if event.WhichOneof("kind") == "ended":
                    run = event.ended.run
                    answer = Answer(decision=decision, completion=_completion(run), run=run)
        if answer is None:
            raise ended_early("orchestrator")
        return answer

    async def embed(self, request: router_pb2.EmbedRequest, call: Call) -> Vectors:
        """The vectors of texts; raises what the router raises."""
        return Vectors(response=await self._router.embed(request, call))

    def stream(
        self, target: Target, prompt: router_pb2.Prompt, call: Call, ticket: RunTicket
    ) -> AsyncGenerator[Event]:
        """The answer piece by piece; raises what the handler raises, at any point before the completion."""
        return end_once(self._stream(target, prompt, call, ticket))

    async def _stream(
        self, target: Target, prompt: router_pb2.Prompt, call: Call, ticket: RunTicket
    ) -> AsyncGenerator[Event]:
        # Here and below, peers' streams are read to their end: one that is left counts as cancelled.
        if target.is_routed:
            decision, ended = None, False
            _aim(prompt, target)
            request = router_pb2.StreamGenerateRequest(prompt=prompt)
            async with aclosing(self._router.stream_generate(request, call)) as responses:
                async for response in responses:
                    match response.WhichOneof("event"):
                        case "delta":
                            yield response.delta
                        case "decision":
                            decision = response.decision
                            yield decision
                        case "end":
                            ended = True
                            yield response.end
            if ended:
                return
            if decision is None:
                raise ended_early("router")
            _hand_over(prompt, decision)
        else:
            decision = _named(target, prompt)
            yield decision
        handler = decision.handler
        served = (
            self._run(handler.pipeline, prompt, call)
            if handler.WhichOneof("kind") == "pipeline"
            else self._stream_execute(handler.agent, prompt, call, ticket)
        )
        async with aclosing(served) as events:
            async for event in events:
                yield event

    async def explain(self, target: Target, prompt: router_pb2.Prompt, call: Call) -> decision_pb2.Decision:
        """How the request would be served."""
        if not target.is_routed:
            return _named(target, prompt)
        _aim(prompt, target)
        return (await self._router.route(router_pb2.RouteRequest(prompt=prompt), call)).decision

    async def _run(
        self, target: decision_pb2.PipelineTarget, prompt: router_pb2.Prompt, call: Call
    ) -> AsyncGenerator[Event]:
        request = pipeline_pb2.StreamRunRequest(input=_pipeline_input(target, prompt))
        spoke = ended = False
        async with aclosing(self._pipeline.stream_run(request, call)) as responses:
            async for response in responses:
                match response.WhichOneof("event"):
                    case "delta":
                        spoke = True
                        yield response.delta
                    case "stage":
                        yield response.stage
                    case "end":
                        ended = True
                        for event in _close(response.end, spoke=spoke):
                            yield event
        if not ended:
            raise ended_early("pipeline")

    async def _stream_execute(
        self, target: decision_pb2.AgentTarget, prompt: router_pb2.Prompt, call: Call, ticket: RunTicket
    ) -> AsyncGenerator[Event]:
        spoke = ended = False
        async with aclosing(self._execute(target, prompt, call, ticket)) as events:
            async for event in events:
                match event.WhichOneof("kind"):
                    case "delta":
                        spoke = True
                        yield event.delta
                    case "ended":
                        yield event
                        ended = True
                        for last in _close(_completion(event.ended.run), spoke=spoke):
                            yield last
                    case _:
                        yield event
        if not ended:
            raise ended_early("orchestrator")

    async def _execute(
        self, target: decision_pb2.AgentTarget, prompt: router_pb2.Prompt, call: Call, ticket: RunTicket
    ) -> AsyncGenerator[run_pb2.RunEvent]:
        task = run_pb2.Task(
            messages=prompt.messages,
            collection=target.collection or DEFAULT_COLLECTION,
            spec=prompt.spec,
            budget=prompt.budget,
            cache_control=prompt.cache_control,
        )
        request = orchestrator_pb2.StreamExecuteRequest(task=task, idempotency_key=ticket.key)
        ticket.is_used = True
        async with aclosing(self._orchestrator.stream_execute(request, call)) as responses:
            async for response in responses:
                yield response.event


def _aim(prompt: router_pb2.Prompt, target: Target) -> None:
    """Names the target, and keeps a caller's own tools with a model, which alone can call them."""
    prompt.target.CopyFrom(target.for_router() or router_pb2.Target())
    prompt.models_only = prompt.models_only or bool(prompt.spec.tools)


def _named(target: Target, prompt: router_pb2.Prompt) -> decision_pb2.Decision:
    if prompt.spec.tools:
        served = "the orchestrator" if target.kind is Kind.AGENT else f"the pipeline {target.name}"
        remedy = "leave them out, or name a model, a route or `auto` instead"
        message = f"{served} does not call a client's tools: {remedy}"
        raise InvalidArgument.field("tools", message, reason="TOOLS_NOT_SUPPORTED")
    return decision_pb2.Decision(rule="named", confidence=1.0, handler=target.handler())


def _hand_over(prompt: router_pb2.Prompt, decision: decision_pb2.Decision) -> None:
    """Makes sure that the decision names another handler, for which the route's limit holds, too."""
    if decision.handler.WhichOneof("kind") not in ("pipeline", "agent"):
        raise ended_early("router")
    if decision.max_output_tokens:
        prompt.spec.max_output_tokens = decision.max_output_tokens


def _pipeline_input(
    target: decision_pb2.PipelineTarget, prompt: router_pb2.Prompt
) -> pipeline_pb2.PipelineInput:
    return pipeline_pb2.PipelineInput(
        pipeline=target.name,
        collection=target.collection or DEFAULT_COLLECTION,
        messages=prompt.messages,
        spec=prompt.spec,
        budget=prompt.budget,
        cache_control=prompt.cache_control,
    )


def _completion(run: run_pb2.Run) -> generation_pb2.Completion:
    """A run's answer, whole or partial; a run without one raises why."""
    if run.HasField("error") and not run.HasField("completion"):
        raise from_proto(run.error)
    if not run.HasField("completion"):
        state = run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
        raise Aborted(
            f"run {run.id} ended {state} and has no answer: see its events, or start it again",
            reason="RUN_WITHOUT_ANSWER",
            metadata={"run_id": run.id},
        )
    completion = run.completion
    if not completion.HasField("usage"):
        completion.usage.CopyFrom(run.usage)
    return completion


def _close(end: generation_pb2.Completion, *, spoke: bool) -> Iterator[Event]:
    """The end, behind its text where that was not sent while it was made."""
    if not spoke:
        for index, part in enumerate(end.message.parts):
            if delta := _delta(part, index):
                yield delta
    yield end


def _delta(part: message_pb2.Part, index: int) -> generation_pb2.Delta | None:
    kind = part.WhichOneof("kind")
    if kind == "text" and part.text:
        return generation_pb2.Delta(text=part.text, part_index=index)
    if kind == "refusal":
        return generation_pb2.Delta(refusal=part.refusal, part_index=index)
    return None
