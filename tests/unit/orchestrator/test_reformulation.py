from hypothesis import given
from hypothesis import strategies as st

from quartet.common.v1 import message_pb2
from services.orchestrator.domain.reformulation import key_of, reformulate

NEED = "Which glazed sculptures did the Quixotic Foundation exhibit during winter?"


def all_queries(need: str, passages: list[message_pb2.Passage]) -> list[str]:
    used, queries = {key_of(need)}, []
    while (query := reformulate(need, used=used, passages=passages)) is not None:
        used.add(key_of(query))
        queries.append(query)
    return queries


def test_queries_get_farther_from_the_need_step_by_step() -> None:
    queries = all_queries(NEED, [])
    assert queries[:2] == ["glazed sculptures Quixotic Foundation exhibit winter", "Quixotic Foundation"]
    assert len(queries) >= 8


def test_words_of_what_was_found_are_taken_up() -> None:
    found = [
        message_pb2.Passage(text="The foundation showed enamelled figures. Enamelled figures sold well.")
    ]
    assert any("enamelled" in query and "figures" in query for query in all_queries(NEED, found))


def test_a_part_that_says_too_little_alone_takes_up_the_whole_question() -> None:
    query = reformulate("Milvus", used={"milvus"}, question="Compare Milvus and pgvector")
    assert query == "Milvus pgvector"


@given(st.text(max_size=200))
def test_no_query_is_tried_twice_and_they_come_to_an_end(need: str) -> None:
    queries = all_queries(need, [])
    keys = [key_of(query) for query in [need, *queries]]
    assert len(set(keys)) == len(keys)
    assert all(keys[1:])
