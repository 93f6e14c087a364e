from typing import Any

from services.kit.members import lay_over


def test_members_are_added_at_all_depths_and_replace_what_stands_there() -> None:
    written = {"a": 1, "b": {"c": {"d": 1, "e": 2}, "f": [1]}, "g": {"h": 1}}
    lay_over(written, {"b": {"c": {"e": 3, "i": 4}, "f": [2]}, "g": 5, "j": {"k": 6}})
    assert written == {"a": 1, "b": {"c": {"d": 1, "e": 3, "i": 4}, "f": [2]}, "g": 5, "j": {"k": 6}}


def test_an_object_takes_the_place_of_what_is_none() -> None:
    written: dict[str, Any] = {"a": None, "b": 1}
    lay_over(written, {"a": {"c": 1}, "b": {}})
    assert written == {"a": {"c": 1}, "b": {}}
