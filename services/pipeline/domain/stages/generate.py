from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import ClassVar

from quartet.common.v1 import generation_pb2
from quartet.router.v1 import router_pb2
from services.kit.errors import Internal
from services.kit.usage import add_usage
from services.pipeline.domain.answer import Answer
from services.pipeline.domain.configuration import GenerateSettings
from services.pipeline.domain.stages.work import Outcome, Slot, Work
from services.pipeline.ports import Router


class GenerateStage:
    """Has a model answer the prompt, through the router."""

    kind: ClassVar = "generate"
    needs: ClassVar = frozenset({Slot.PROMPT})
    gives: ClassVar = frozenset({Slot.COMPLETION})

    def __init__(self, settings: GenerateSettings, router: Router) -> None:
        self._settings = settings
        self._router = router

    async def process(self, work: Work) -> Outcome:
        request = router_pb2.GenerateRequest(prompt=self._prompt(work))
        response = await self._router.generate(request, work.call.outgoing())
        if not response.HasField("completion"):
            raise _no_answer()
        self._take(work, response.completion)
        return self.outcome(work)

    async def stream(self, work: Work) -> AsyncGenerator[generation_pb2.Delta]:
        request = router_pb2.StreamGenerateRequest(prompt=self._prompt(work))
        answer = Answer()
        async with aclosing(self._router.stream_generate(request, work.call.outgoing())) as events:
            async for event in events:
                kind = event.WhichOneof("event")
                if kind == "delta":
                    answer.add(event.delta)
                    # Citations are checked first, and go out with the end.
                    if event.delta.WhichOneof("kind") != "citation":
                        yield event.delta
                elif kind == "end":
                    self._take(work, answer.complete(event.end))
        if work.completion is None:
            raise _no_answer()

    def outcome(self, work: Work) -> Outcome:
        completion = work.completion or generation_pb2.Completion()
        return Outcome(summary=f"{completion.usage.output_tokens} tokens by {completion.model}")

    def _prompt(self, work: Work) -> router_pb2.Prompt:
        prompt = router_pb2.Prompt()
        prompt.CopyFrom(work.prompt or router_pb2.Prompt())
        prompt.models_only = True
        if self._settings.model:
            prompt.target.model = self._settings.model
        else:
            prompt.target.route = self._settings.route
        prompt.spec.CopyFrom(work.input.spec)
        asked = (
            prompt.spec.max_output_tokens
            if prompt.spec.HasField("max_output_tokens")
            else self._settings.max_tokens
        )
        prompt.spec.max_output_tokens = min(asked, self._settings.max_tokens)
        # A pipeline branches nowhere: there is nobody who could answer a tool call.
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            prompt.spec.ClearField(name)
        if work.input.HasField("budget"):
            prompt.budget.CopyFrom(work.input.budget)
        prompt.run_id = work.input.run_id
        prompt.idempotency_key = work.input.idempotency_key
        prompt.cache_control = work.input.cache_control
        return prompt

    def _take(self, work: Work, completion: generation_pb2.Completion) -> None:
        work.completion = generation_pb2.Completion()
        work.completion.CopyFrom(completion)
        if work.input.spec.tools:
            work.completion.adapted.append("tools")
        add_usage(work.usage, completion.usage)


def _no_answer() -> Internal:
    return Internal(
        "the router ended without an answer: try again, and report it if it lasts", reason="NO_ANSWER"
    )
