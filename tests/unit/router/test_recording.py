import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartet.common.v1 import generation_pb2 as generation
from quartet.common.v1 import message_pb2 as message
from services.router.domain.caching import is_worth_keeping
from services.router.domain.recording import Recording, assemble

deltas = st.lists(
    st.one_of(
        st.builds(
            lambda text, index: generation.Delta(text=text, part_index=index), st.text(), st.integers(0, 3)
        ),
        st.builds(
            lambda text: generation.Delta(thinking=message.Thinking(text=text), part_index=4), st.text()
        ),
    ),
    max_size=20,
)


def completed(*parts: message.Part, finish: int = generation.FINISH_REASON_STOP) -> generation.Completion:
    return generation.Completion(
        message=message.Message(role=message.ROLE_ASSISTANT, parts=parts),
        finish_reason=finish,  # type: ignore[arg-type]
        usage=generation.Usage(input_tokens=3, output_tokens=2, cost_micro_usd=7),
        model="m",
    )


@given(spoken=deltas)
def test_a_recording_reads_as_it_was_written(spoken: list[generation.Delta]) -> None:
    recording = Recording.of_stream(spoken, completed())
    again = Recording.from_bytes(recording.to_bytes())
    assert list(again.deltas) == list(recording.deltas)
    assert assemble(again.deltas) == assemble(spoken)
    assert again.completion == recording.completion


def test_words_that_came_piece_by_piece_are_given_again_in_one() -> None:
    spoken = [generation.Delta(text=f"word{number} ") for number in range(60)]
    recording = Recording.of_stream(spoken, completed())
    assert [delta.text for delta in recording.deltas] == ["".join(delta.text for delta in spoken)]
    assert spoken[0].text == "word0 "


def test_a_long_answer_is_given_again_in_pieces_of_bounded_length() -> None:
    spoken = [generation.Delta(text="x" * 1000) for _ in range(100)]
    recording = Recording.of_stream(spoken, completed())
    assert sum(len(delta.text) for delta in recording.deltas) == 100_000
    assert all(delta.ByteSize() <= 17 * 1024 for delta in recording.deltas)


@given(spoken=deltas)
def test_the_message_says_what_the_deltas_said(spoken: list[generation.Delta]) -> None:
    made = assemble(spoken)
    said: dict[int, str] = {}
    for delta in spoken:
        said[delta.part_index] = said.get(delta.part_index, "") + delta.text
    words = [said[index] for index in sorted(said) if index < 4]
    assert [part.text for part in made.parts if part.WhichOneof("kind") == "text"] == words


def test_an_answer_that_came_whole_is_replayed_part_by_part() -> None:
    cited = message.Part(text="It is 330 m tall.", citations=[message.Citation(quote="330 m", index=1)])
    whole = completed(message.Part(thinking=message.Thinking(text="hm", signature="s")), cited)
    recording = Recording.of_answer(whole)
    assert assemble(recording.deltas) == whole.message


@pytest.mark.parametrize("cut", [1, 3, 10])
def test_a_recording_that_was_cut_off_is_refused(cut: int) -> None:
    data = Recording.of_stream([generation.Delta(text="hello")], completed()).to_bytes()
    with pytest.raises(ValueError, match="recording"):
        Recording.from_bytes(data[:-cut])


TEXT = message.Part(text="hello")


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (completed(TEXT), True),
        (completed(TEXT, finish=generation.FINISH_REASON_STOP_SEQUENCE), True),
        (completed(TEXT, finish=generation.FINISH_REASON_LENGTH), False),
        (completed(TEXT, finish=generation.FINISH_REASON_CONTENT_FILTER), False),
        (completed(TEXT, finish=generation.FINISH_REASON_TOOL_CALLS), False),
        (completed(TEXT, message.Part(tool_call=message.ToolCall(name="f"))), False),
        (completed(message.Part(refusal="no")), False),
        (completed(), False),
    ],
)
def test_only_whole_answers_in_words_are_worth_keeping(answer: generation.Completion, kept: bool) -> None:
    assert is_worth_keeping(answer) is kept
