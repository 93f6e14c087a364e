from dataclasses import dataclass, field

from services.router.domain.judgement import Judgement, Remembering


@dataclass
class Counting:
    """Judges by length, and knows what it was asked."""

    asked: list[str] = field(default_factory=list)

    def judge(self, text: str) -> Judgement:
        self.asked.append(text)
        return Judgement(uplift=len(text) / 100, intent="complex", confidence=1.0, is_known=True)


def test_a_text_that_comes_again_is_judged_once() -> None:
    counting = Counting()
    judge = Remembering(counting)
    assert [judge.judge(text).uplift for text in ("a", "bb", "a", "bb")] == [0.01, 0.02, 0.01, 0.02]
    assert counting.asked == ["a", "bb"]


def test_of_many_texts_those_that_came_last_are_remembered() -> None:
    counting = Counting()
    judge = Remembering(counting, max_texts=2)
    for text in ("a", "bb", "a", "ccc", "a", "bb"):
        judge.judge(text)
    assert counting.asked == ["a", "bb", "ccc", "bb"]
