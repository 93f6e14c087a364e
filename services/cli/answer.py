"""An answer as it comes in, from whichever handler serves it."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from quartet.common.v1 import generation_pb2, message_pb2, run_pb2, stage_pb2
from quartet.common.v1.decision_pb2 import Decision
from quartet.gateway.v1 import gateway_pb2
from services.cli.client import STREAM_TIMEOUT_S, Client
from services.cli.progress import describe_event, describe_stage


@dataclass(slots=True, kw_only=True)
class Answer:
    """What is known of an answer so far.

    Attributes:
        streamed: The text as it was streamed.
        first_text_s: Seconds until the first of it; None when the answer came whole.
        run: The orchestrator's run, once it ended.
    """

    decision: Decision = field(default_factory=Decision)
    completion: generation_pb2.Completion = field(default_factory=generation_pb2.Completion)
    streamed: str = ""
    streamed_citations: list[message_pb2.Citation] = field(default_factory=list)
    first_text_s: float | None = None
    total_s: float = 0.0
    trace_id: str = ""
    stages: list[stage_pb2.StageReport] = field(default_factory=list)
    run: run_pb2.Run | None = None

    @property
    def text(self) -> str:
        """The whole text: that of the final message where there is one, else what was streamed."""
        return text_of(self.completion.message.parts) or self.streamed

    @property
    def citations(self) -> list[message_pb2.Citation]:
        """The citations by number, each once."""
        found = [citation for part in self.completion.message.parts for citation in part.citations]
        citations: dict[tuple[int, str, int, int], message_pb2.Citation] = {}
        for one in found or self.streamed_citations:
            citations.setdefault((one.index, one.document_id, one.start_char, one.end_char), one)
        return [citations[key] for key in sorted(citations)]


def text_of(parts: Iterable[message_pb2.Part]) -> str:
    """The text of a message, refusals included."""
    return "".join(part.text or part.refusal for part in parts)


def make_generation(target: str, messages: Sequence[message_pb2.Message]) -> gateway_pb2.Generation:
    """A request to the handler of a name as in `/v1/models`."""
    return gateway_pb2.Generation(target=gateway_pb2.Target(name=target), messages=messages)


def user_message(text: str) -> message_pb2.Message:
    """A turn of the person."""
    return message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=text)])


async def fetch_answer(client: Client, generation: gateway_pb2.Generation) -> Answer:
    """The answer in one piece."""
    started = time.monotonic()
    request = gateway_pb2.GenerateRequest(generation=generation)
    response = await client.gateway.generate(request, client.call())
    return Answer(
        decision=response.decision,
        completion=response.completion,
        total_s=time.monotonic() - started,
        trace_id=response.trace_id or client.trace_id,
        stages=list(response.stages),
        run=response.run if response.HasField("run") else None,
    )


async def stream_answer(
    client: Client,
    generation: gateway_pb2.Generation,
    *,
    write: Callable[[str], None],
    note: Callable[[str], None],
) -> Answer:
    """The answer piece by piece.

    Args:
        client: Where it is asked.
        generation: What is asked.
        write: Takes each piece of text as it comes.
        note: Takes a line for each thing that a pipeline or the orchestrator did.
    """
    answer = Answer()
    started = time.monotonic()
    request = gateway_pb2.StreamGenerateRequest(generation=generation)
    async with aclosing(client.gateway.stream_generate(request, client.call(STREAM_TIMEOUT_S))) as events:
        async for event in events:
            answer.trace_id = answer.trace_id or event.trace_id
            text = _take(answer, event, note)
            if text:
                if answer.first_text_s is None:
                    answer.first_text_s = time.monotonic() - started
                answer.streamed += text
                write(text)
    answer.trace_id = answer.trace_id or client.trace_id
    answer.total_s = time.monotonic() - started
    return answer


def _take(answer: Answer, event: gateway_pb2.StreamGenerateResponse, note: Callable[[str], None]) -> str:
    """Keeps an event; returns the text that it adds."""
    match event.WhichOneof("event"):
        case "decision":
            answer.decision = event.decision
        case "delta":
            return _take_delta(answer, event.delta)
        case "stage":
            answer.stages.append(event.stage)
            note(describe_stage(event.stage))
        case "run_event":
            if event.run_event.HasField("delta"):
                return _take_delta(answer, event.run_event.delta)
            if event.run_event.HasField("ended"):
                answer.run = event.run_event.ended.run
            for line in describe_event(event.run_event):
                note(line)
        case "end":
            answer.completion = event.end
    return ""


def _take_delta(answer: Answer, delta: generation_pb2.Delta) -> str:
    if delta.HasField("citation"):
        answer.streamed_citations.append(delta.citation)
    return delta.text or delta.refusal
