"""An answer as it was streamed, to be given again whole or as a stream."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from google.protobuf.message import DecodeError

from quartet.common.v1.generation_pb2 import Completion, Delta
from quartet.common.v1.message_pb2 import ROLE_ASSISTANT, Message, Part
from quartet.router.v1.router_pb2 import StreamGenerateResponse
from services.router.domain.joining import append_joined

MAX_BYTES = 1024 * 1024
"""Longer answers are not recorded."""
MAX_JOINED_BYTES = 16 * 1024
"""Of one delta, so that joining takes no time that grows with the square of the answer."""
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """An answer.

    Attributes:
        deltas: One for each stretch of words of one kind, since all are there at once when it is given again;
            of an answer that came whole, one for each part.
        completion: With the message.
    """

    deltas: Sequence[Delta]
    completion: Completion

    @classmethod
    def of_stream(cls, deltas: Sequence[Delta], end: Completion) -> Self:
        """From a stream, whose end has no message of its own as a rule."""
        completion = Completion()
        completion.CopyFrom(end)
        if not completion.message.parts:
            completion.message.CopyFrom(assemble(deltas))
        return cls(deltas=_join(deltas), completion=completion)

    @classmethod
    def of_answer(cls, completion: Completion) -> Self:
        """From an answer that came whole."""
        return cls(deltas=list(_split(completion.message)), completion=completion)

    def to_bytes(self) -> bytes:
        """The deltas and the completion, each behind its length."""
        events = [StreamGenerateResponse(delta=delta) for delta in self.deltas]
        events.append(StreamGenerateResponse(end=self.completion))
        pieces: list[bytes] = []
        for event in events:
            data = event.SerializeToString()
            pieces += (len(data).to_bytes(_LENGTH_BYTES, "big"), data)
        return b"".join(pieces)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` wrote; raises ValueError for anything else."""
        deltas: list[Delta] = []
        start = 0
        while start < len(data):
            begin = start + _LENGTH_BYTES
            start = begin + int.from_bytes(data[begin - _LENGTH_BYTES : begin], "big")
            try:
                event = StreamGenerateResponse.FromString(data[begin:start])
            except DecodeError as error:
                raise ValueError("no recording, or one of another version") from error
            if event.HasField("end") and start == len(data):
                return cls(deltas=deltas, completion=event.end)
            deltas.append(event.delta)
        raise ValueError("a recording without its end")


def assemble(deltas: Iterable[Delta]) -> Message:
    """The message that deltas make up."""
    parts: dict[int, Part] = {}
    for delta in deltas:
        part = parts.setdefault(delta.part_index, Part())
        match delta.WhichOneof("kind"):
            case "text":
                part.text += delta.text
            case "thinking":
                thinking = part.thinking
                thinking.text += delta.thinking.text
                thinking.signature += delta.thinking.signature
                thinking.redacted_data += delta.thinking.redacted_data
            case "refusal":
                part.refusal += delta.refusal
            case "citation":
                part.citations.add().CopyFrom(delta.citation)
            case "tool_call":
                called = part.tool_call
                called.id = called.id or delta.tool_call.id
                called.name = called.name or delta.tool_call.name
                called.arguments_json += delta.tool_call.arguments_json
                if delta.tool_call.HasField("input_text"):
                    called.input_text += delta.tool_call.input_text
            case "opaque" if not part.HasField("opaque"):
                part.opaque.CopyFrom(delta.opaque)
    ordered = [parts[index] for index in sorted(parts)]
    return Message(role=ROLE_ASSISTANT, parts=[part for part in ordered if part.WhichOneof("kind")])


def _join(deltas: Iterable[Delta]) -> list[Delta]:
    """Neighbours as one, in messages of their own: those that came may still be on their way to a client."""
    joined: list[Delta] = []
    size = 0
    for delta in deltas:
        own = Delta()
        own.CopyFrom(delta)
        size += own.ByteSize()
        if size > MAX_JOINED_BYTES:
            size = own.ByteSize()
            joined.append(own)
        else:
            append_joined(joined, own)
    return joined


def _split(message: Message) -> Iterator[Delta]:
    for index, part in enumerate(message.parts):
        match part.WhichOneof("kind"):
            case "text":
                yield Delta(text=part.text, part_index=index)
            case "thinking":
                yield Delta(thinking=part.thinking, part_index=index)
        for citation in part.citations:
            yield Delta(citation=citation, part_index=index)
