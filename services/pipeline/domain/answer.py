"""An answer put together again from its deltas."""

from quartet.common.v1 import generation_pb2, message_pb2


class Answer:
    """Collects the deltas of one answer, part by part."""

    def __init__(self) -> None:
        self._kinds: dict[int, str] = {}
        self._texts: dict[int, list[str]] = {}
        self._parts: dict[int, message_pb2.Part] = {}

    def add(self, delta: generation_pb2.Delta) -> None:
        """Takes the next delta."""
        index = delta.part_index
        part = self._parts.setdefault(index, message_pb2.Part())
        kind = delta.WhichOneof("kind")
        if kind == "citation":
            part.citations.append(delta.citation)
            return
        self._kinds.setdefault(index, kind or "text")
        pieces = self._texts.setdefault(index, [])
        if kind == "text":
            pieces.append(delta.text)
        elif kind == "refusal":
            pieces.append(delta.refusal)
        elif kind == "thinking":
            pieces.append(delta.thinking.text)
            part.thinking.signature += delta.thinking.signature
            part.thinking.redacted_data += delta.thinking.redacted_data

    def complete(self, end: generation_pb2.Completion) -> generation_pb2.Completion:
        """The end of the stream with the whole message in it."""
        completion = generation_pb2.Completion()
        completion.CopyFrom(end)
        if completion.HasField("message"):
            return completion
        completion.message.role = message_pb2.ROLE_ASSISTANT
        for index in sorted(self._parts):
            part, text = self._parts[index], "".join(self._texts.get(index, []))
            if self._kinds.get(index) == "thinking":
                part.thinking.text = text
            elif self._kinds.get(index) == "refusal":
                part.refusal = text
            else:
                part.text = text
            completion.message.parts.append(part)
        return completion


def answer_text(completion: generation_pb2.Completion) -> str:
    """The words of an answer, all its text parts together."""
    return "".join(part.text for part in completion.message.parts if part.WhichOneof("kind") == "text")
