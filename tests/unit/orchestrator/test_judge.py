from quartet.common.v1 import generation_pb2, message_pb2
from services.orchestrator.domain.judge import judge_answer, judge_retrieval

NEED = "When was the Aldermoor Bridge opened?"


def passage(text: str, score: float = 0.6) -> message_pb2.Passage:
    return message_pb2.Passage(title="Bridges", text=text, score=score)


def answer(text: str, *quotes: str) -> generation_pb2.Completion:
    citations = [message_pb2.Citation(quote=quote) for quote in quotes]
    part = message_pb2.Part(text=text, citations=citations)
    return generation_pb2.Completion(message=message_pb2.Message(parts=[part]))


def test_nothing_found_is_no_confidence() -> None:
    assert judge_retrieval(NEED, []).confidence == 0


def test_passages_that_hold_the_words_and_names_are_enough() -> None:
    judged = judge_retrieval(NEED, [passage("The Aldermoor Bridge was opened in 1932.")])
    assert not judged.weak
    assert judged.confidence <= 1


def test_a_near_passage_about_another_name_is_not_enough() -> None:
    judged = judge_retrieval(NEED, [passage("The Corvane Bridge was opened in 1951.", score=0.9)])
    assert judged.weak
    assert "Aldermoor Bridge" in judged.because


def test_a_number_that_is_asked_for_must_be_there() -> None:
    need = "How many ships passed Orrin harbour in 1974?"
    assert judge_retrieval(need, [passage("Ships passed Orrin harbour in 1973, very many.", 0.3)]).weak
    assert not judge_retrieval(need, [passage("Of ships, 412 passed Orrin harbour in 1974.", 0.5)]).weak


def test_a_cited_answer_to_the_question_is_enough() -> None:
    assert not judge_answer(
        NEED, answer("It was opened in 1932 [1].", "The Aldermoor Bridge was opened in 1932.")
    ).weak


def test_answers_without_ground_are_not_enough() -> None:
    assert judge_answer(NEED, answer("")).confidence == 0
    assert judge_answer(NEED, answer("The passages do not say when it was opened [1].", NEED)).weak
    assert judge_answer(NEED, answer("In 1932.")).weak


def test_a_refusal_is_no_answer() -> None:
    refused = answer("I will not.", NEED)
    refused.finish_reason = generation_pb2.FINISH_REASON_REFUSAL
    assert judge_answer(NEED, refused).confidence == 0
