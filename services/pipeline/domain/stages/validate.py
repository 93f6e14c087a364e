from typing import ClassVar

from quartet.common.v1 import generation_pb2, message_pb2, stage_pb2
from services.pipeline.domain.answer import answer_text
from services.pipeline.domain.citations import derive_citations, marked_numbers
from services.pipeline.domain.configuration import (
    HasCitationsSettings,
    NoHallucinationSettings,
    ValidateSettings,
)
from services.pipeline.domain.grounding import support_sentences
from services.pipeline.domain.sentences import sentences, without_markers, words
from services.pipeline.domain.stages.work import Outcome, Slot, Work

SHOWN_CHARACTERS = 120
"""Of a sentence in a check's detail."""


class ValidateStage:
    """Cites where the model only left marks, and checks the answer against the passages."""

    kind: ClassVar = "validate"
    needs: ClassVar = frozenset({Slot.QUESTION, Slot.PASSAGES, Slot.COMPLETION})
    gives: ClassVar = frozenset({Slot.CHECKS})

    def __init__(self, settings: ValidateSettings) -> None:
        self._settings = settings

    @property
    def can_abort(self) -> bool:
        """True when an answer must not be seen before it is checked."""
        return any(check.on_failure == "abort" for check in self._settings.checks)

    async def process(self, work: Work) -> Outcome:
        completion, passages = work.completion or generation_pb2.Completion(), work.passages or []
        _cite(completion, passages)
        work.checks = []
        abort_reason = ""
        for settings in self._settings.checks:
            if isinstance(settings, NoHallucinationSettings):
                check = _check_support(settings, completion, passages, work.question.text)
            else:
                check = _check_citations(settings, completion, passages)
            work.checks.append(check)
            if not check.passed and settings.on_failure == "abort" and not abort_reason:
                abort_reason = f"The answer did not pass the check {check.name}: {check.detail}."
        passed = sum(check.passed for check in work.checks)
        return Outcome(summary=f"{passed} of {len(work.checks)} checks passed", abort_reason=abort_reason)


def _cite(completion: generation_pb2.Completion, passages: list[message_pb2.Passage]) -> None:
    if any(part.citations for part in completion.message.parts):
        return
    for part in completion.message.parts:
        if part.WhichOneof("kind") == "text":
            part.citations.extend(derive_citations(part.text, passages))


def _check_support(
    settings: NoHallucinationSettings,
    completion: generation_pb2.Completion,
    passages: list[message_pb2.Passage],
    question: str,
) -> stage_pb2.Check:
    texts = [f"{passage.title}\n{passage.text}" for passage in passages]
    supports = support_sentences(answer_text(completion), texts, question)
    worst = min(supports, key=lambda support: support.score, default=None)
    if worst is None:
        return stage_pb2.Check(name=settings.check, passed=False, detail="the answer says nothing")
    passed = worst.score >= settings.least_support
    shown = worst.sentence[:SHOWN_CHARACTERS]
    if passed:
        detail = f"each of {len(supports)} sentences is borne out"
    elif worst.missing:
        detail = f"no passage holds {worst.missing!r} of: {shown}"
    else:
        detail = f"no passage bears out: {shown}"
    return stage_pb2.Check(name=settings.check, passed=passed, score=worst.score, detail=detail)


def _check_citations(
    settings: HasCitationsSettings, completion: generation_pb2.Completion, passages: list[message_pb2.Passage]
) -> stage_pb2.Check:
    text = answer_text(completion)
    cited = [
        (citation.answer_start_char, citation.answer_end_char)
        for part in completion.message.parts
        for citation in part.citations
    ]
    statements = [span for span in sentences(text) if words(without_markers(text[span.start : span.end]))]
    covered = sum(any(start < span.end and span.start < end for start, end in cited) for span in statements)
    stray = [number for number in marked_numbers(text) if not 1 <= number <= len(passages)]
    if stray and not cited:
        detail = f"it cites [{stray[0]}], and there are {len(passages)} passages"
    else:
        detail = f"{covered} of {len(statements)} sentences cite a passage"
    return stage_pb2.Check(
        name=settings.check, passed=bool(cited), score=covered / max(1, len(statements)), detail=detail
    )
