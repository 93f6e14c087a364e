"""What a dialect must be able to say; the modules `openai_wire` and `anthropic_wire` are the two that can."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tests.doubles.provider.answers import Answer, Prompt
from tests.doubles.provider.delivery import Stream


class Wire(Protocol):
    """A vendor's wire format: requests read into prompts, answers written as bytes."""

    @property
    def MALFORMED(self) -> bytes: ...  # noqa: N802  (a module's constant)

    @property
    def REQUEST_ID(self) -> str: ...  # noqa: N802  (a module's constant)

    def read_prompt(self, body: Mapping[str, Any]) -> Prompt: ...

    def unary(self, answer: Answer, model: str, serial: str) -> bytes: ...

    def stream(self, answer: Answer, model: str, serial: str, body: Mapping[str, Any]) -> Stream: ...

    def models(self, names: Sequence[str]) -> bytes: ...

    def model_not_found(self, model: str) -> bytes: ...

    def error(
        self, status: int, *, message: str | None = None, param: str | None = None, code: str | None = None
    ) -> bytes: ...

    def error_event(self, message: str | None) -> bytes: ...
