"""Retrieved passages as text, numbered the same way for every model that reads them."""

from quartet.common.v1.message_pb2 import Passage


class PassageNumbers:
    """Counts the passages of one request from 1: answers mark their claims with these numbers."""

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count = 0

    def render(self, passage: Passage) -> str:
        """`[n] TITLE`, and the passage from the next line on."""
        self._count += 1
        head = f"[{self._count}] {passage.title}".rstrip()
        return f"{head}\n{passage.text}"
