from collections.abc import Callable

import pytest

from quartet.common.v1 import message_pb2, run_pb2
from services.orchestrator.domain.progress import Progress

Begin = Callable[..., Progress]


@pytest.fixture
def begin() -> Begin:
    """A run that has done nothing yet."""

    def progress(question: str, *, max_iterations: int = 8, **task: object) -> Progress:
        message = message_pb2.Message(role=message_pb2.ROLE_USER, parts=[message_pb2.Part(text=question)])
        return Progress(task=run_pb2.Task(messages=[message], **task), max_iterations=max_iterations)  # type: ignore[arg-type]

    return progress
