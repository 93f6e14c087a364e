import pytest

from quartet.common.v1 import generation_pb2, message_pb2
from services.kit.errors import InvalidArgument
from services.pipeline.domain.answer import Answer, answer_text
from services.pipeline.domain.paging import cut_page, read_token
from services.pipeline.domain.question import read_question

USER, ASSISTANT = message_pb2.ROLE_USER, message_pb2.ROLE_ASSISTANT


def said(role: message_pb2.Role.ValueType, *texts: str) -> message_pb2.Message:
    return message_pb2.Message(role=role, parts=[message_pb2.Part(text=text) for text in texts])


def with_document(media: message_pb2.Media, *texts: str) -> message_pb2.Message:
    message = said(USER, *texts)
    message.parts.add(document=media)
    return message


def test_the_last_user_message_with_text_is_the_question() -> None:
    media = message_pb2.Media(mime_type="text/plain", data=b"x", filename="a.txt")
    messages = [said(USER, "first"), said(ASSISTANT, "answer"), with_document(media, "second", "line")]
    question = read_question(messages)
    assert question.text == "second\nline"
    assert question.position == 2
    assert [document.source for document in question.documents] == ["a.txt"]
    assert all(part.WhichOneof("kind") == "text" for message in question.messages for part in message.parts)
    assert messages[2].parts[2].HasField("document"), "the request itself is not changed"


def test_a_message_that_is_only_a_document_leaves_the_question_where_it_was() -> None:
    media = message_pb2.Media(mime_type="text/plain", data=b"x")
    question = read_question([said(USER, "what?"), with_document(media)])
    assert (question.text, question.position, len(question.messages)) == ("what?", 0, 1)


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (said(ASSISTANT, "hello"), "whose text is the question"),
        (with_document(message_pb2.Media(url="https://example.org/a.pdf"), "q"), "sent as bytes"),
        (with_document(message_pb2.Media(data=b"x", filename="a.exe"), "q"), "is not read"),
    ],
)
def test_a_conversation_that_cannot_be_answered_is_refused(message: message_pb2.Message, fault: str) -> None:
    with pytest.raises(InvalidArgument, match=fault):
        read_question([message])


def test_an_answer_is_put_together_from_its_deltas() -> None:
    answer = Answer()
    for delta in (
        generation_pb2.Delta(thinking=message_pb2.Thinking(text="hm"), part_index=0),
        generation_pb2.Delta(thinking=message_pb2.Thinking(signature="s"), part_index=0),
        generation_pb2.Delta(text="It is ", part_index=1),
        generation_pb2.Delta(text="so [1].", part_index=1),
        generation_pb2.Delta(citation=message_pb2.Citation(index=1), part_index=1),
    ):
        answer.add(delta)
    completion = answer.complete(generation_pb2.Completion(model="m"))
    thought, text = completion.message.parts
    assert (thought.thinking.text, thought.thinking.signature) == ("hm", "s")
    assert text.text == answer_text(completion) == "It is so [1]."
    assert [citation.index for citation in text.citations] == [1]
    assert completion.model == "m"


def test_pages_follow_each_other_to_the_end() -> None:
    page, token = cut_page(["a", "ü", "c"], 2, key=str)
    assert page == ["a", "ü"]
    assert read_token(token) == "ü"
    assert cut_page(["c"], 2, key=str) == (["c"], "")
    assert read_token("") == ""


@pytest.mark.parametrize("token", ["nonsense!", "ü", "AA=="], ids=["no base64", "no ASCII", "NUL"])
def test_a_token_of_no_earlier_answer_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument, match="page_token"):
        read_token(token)
