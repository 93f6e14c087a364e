"""Which rules recognise a text, whatever else the others look for."""

from hypothesis import given
from hypothesis import strategies as st

from quartet.common.v1 import message_pb2 as message
from quartet.router.v1.router_pb2 import Prompt
from services.router.domain.features import read_features
from services.router.domain.rules import Rule, RuleSet, Vocabulary

_words = st.sampled_from(("set", "up", "the", "api", "c++"))
_entries = st.lists(st.lists(_words, min_size=1, max_size=3).map(" ".join), max_size=3)


def _occurs(entries: list[str], text: str) -> bool:
    return any(f" {entry} " in f" {text} " for entry in entries)


@given(
    text=st.lists(_words, max_size=6).map(" ".join),
    others=_entries,
    keywords=_entries.filter(bool),
    excluded=_entries,
)
def test_a_rule_finds_whole_words_and_phrases(
    text: str, others: list[str], keywords: list[str], excluded: list[str]
) -> None:
    missed = Rule(name="missed", priority=2, route="a", keywords=(Vocabulary(others), Vocabulary(["never"])))
    rule = Rule(
        name="it", priority=1, route="b", keywords=(Vocabulary(keywords),), excluded=Vocabulary(excluded)
    )
    turn = message.Message(role=message.ROLE_USER, parts=[message.Part(text=text)])
    found = RuleSet([rule, missed]).decide(read_features(Prompt(messages=[turn])), models_only=False)
    assert (found is rule) is (_occurs(keywords, text) and not _occurs(excluded, text))
