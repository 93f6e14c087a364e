"""The answer of a run: put together from deltas, given its citations, and made plain where it is partial."""

from collections.abc import Sequence

from quartet.common.v1 import generation_pb2, message_pb2, run_pb2
from services.orchestrator.domain.citations import cite
from services.orchestrator.domain.progress import Progress

MAX_QUOTED_PASSAGES = 3
MAX_QUOTED_CHARS = 400


class Gathering:
    """A completion while its deltas come; bounded by the router, which bounds the output's tokens."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._refusals: list[str] = []
        self._citations: list[message_pb2.Citation] = []

    def add(self, delta: generation_pb2.Delta) -> None:
        """Takes text, citations and refusals; reasoning is not part of an answer."""
        kind = delta.WhichOneof("kind")
        if kind == "text":
            self._texts.append(delta.text)
        elif kind == "citation":
            self._citations.append(delta.citation)
        elif kind == "refusal":
            self._refusals.append(delta.refusal)

    def finish(self, end: generation_pb2.Completion) -> generation_pb2.Completion:
        """The whole completion: the stream's end with the message that was gathered."""
        completion = generation_pb2.Completion()
        completion.CopyFrom(end)
        if not completion.HasField("message"):
            message = completion.message
            message.role = message_pb2.ROLE_ASSISTANT
            message.parts.add(text="".join(self._texts), citations=self._citations)
            if self._refusals:
                message.parts.add(refusal="".join(self._refusals))
        return completion


def with_citations(
    completion: generation_pb2.Completion, passages: Sequence[message_pb2.Passage]
) -> generation_pb2.Completion:
    """The completion as one text part with citations: the model's own, else those that its markers name."""
    text = text_of(completion)
    own = [citation for part in completion.message.parts for citation in part.citations]
    cited = generation_pb2.Completion()
    cited.CopyFrom(completion)
    others = [
        part for part in completion.message.parts if part.WhichOneof("kind") not in {"text", "thinking"}
    ]
    del cited.message.parts[:]
    cited.message.role = message_pb2.ROLE_ASSISTANT
    cited.message.parts.add(text=text, citations=own or cite(text, passages))
    cited.message.parts.extend(others)
    return cited


def text_of(completion: generation_pb2.Completion) -> str:
    """The words of an answer."""
    return "".join(part.text for part in completion.message.parts if part.WhichOneof("kind") == "text")


def conclude(
    progress: Progress, reason: run_pb2.StopReason.ValueType, written: generation_pb2.Completion | None
) -> generation_pb2.Completion:
    """The run's answer, with what the whole run used.

    What a model wrote is kept; without it, or when it cites nothing though something was found, the best
    passages are quoted as they are. A partial answer ends with what is missing, after the text, so that
    citations keep their places.
    """
    answer = generation_pb2.Completion()
    if written is not None and _is_worth_keeping(written, progress, reason):
        answer.CopyFrom(written)
    else:
        answer.CopyFrom(_quoted(progress))
    answer.usage.CopyFrom(progress.usage)
    if reason != run_pb2.STOP_REASON_DONE:
        note = missing(progress, reason)
        part = answer.message.parts[0]
        part.text = f"{part.text}\n\n{note}" if part.text else note
    return answer


def _is_worth_keeping(
    written: generation_pb2.Completion, progress: Progress, reason: run_pb2.StopReason.ValueType
) -> bool:
    if not text_of(written):
        return False
    cites = any(part.citations for part in written.message.parts)
    return cites or reason == run_pb2.STOP_REASON_DONE or not any(need.is_met for need in progress.needs())


def missing(progress: Progress, reason: run_pb2.StopReason.ValueType) -> str:
    """Says that an answer is partial, why, and which sub-questions are open."""
    because = {
        run_pb2.STOP_REASON_MAX_ITERATIONS: "the iterations are used up",
        run_pb2.STOP_REASON_BUDGET: "the budget is used up",
        run_pb2.STOP_REASON_DEADLINE: "the time is up",
        run_pb2.STOP_REASON_NO_PROGRESS: "there was nothing new to try",
    }.get(reason, "the run was stopped")
    open_questions = [need.question for need in progress.needs() if not need.is_met]
    if not progress.needs():
        return f"Nothing was looked for: {because}."
    if not open_questions:
        return f"This answer is partial: {because}."
    listed = "; ".join(question[:200] for question in open_questions)
    return f"This answer is partial: {because}. Not enough was found on: {listed}"


def _quoted(progress: Progress) -> generation_pb2.Completion:
    """The best passages in their own words, marked and cited."""
    completion = generation_pb2.Completion(finish_reason=generation_pb2.FINISH_REASON_STOP)
    message = completion.message
    message.role = message_pb2.ROLE_ASSISTANT
    part = message.parts.add(text="")
    for number, passage in enumerate(progress.passages()[:MAX_QUOTED_PASSAGES], start=1):
        quote = passage.text[:MAX_QUOTED_CHARS].rstrip()
        start = len(part.text) + (1 if part.text else 0)
        part.text = f"{part.text}\n{quote} [{number}]" if part.text else f"{quote} [{number}]"
        part.citations.add(
            document_id=passage.document_id,
            chunk_id=passage.chunk_id,
            title=passage.title,
            quote=quote,
            start_char=passage.start_char,
            end_char=passage.start_char + len(quote),
            score=passage.score,
            answer_start_char=start,
            answer_end_char=len(part.text),
            index=number,
            collection=passage.collection,
        )
    return completion
