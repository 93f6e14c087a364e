from collections.abc import Sequence
from dataclasses import dataclass

from quartet.common.v1 import message_pb2
from services.kit.errors import InvalidArgument
from services.pipeline.domain.document import RawDocument
from services.pipeline.domain.media_types import media_type

MAX_INLINE_DOCUMENTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a run is asked: the last user message, and the documents that the conversation carries.

    Attributes:
        text: The last user message's text, for search.
        messages: The conversation without its documents.
        position: The index of the last user message in `messages`.
    """

    text: str
    documents: tuple[RawDocument, ...]
    messages: tuple[message_pb2.Message, ...]
    position: int


def read_question(messages: Sequence[message_pb2.Message]) -> Question:
    """Finds question and documents in a conversation.

    Raises:
        InvalidArgument: no user message has text, or a document cannot be taken.
    """
    documents: list[RawDocument] = []
    kept: list[message_pb2.Message] = []
    position = -1
    for index, message in enumerate(messages):
        copy = message_pb2.Message(role=message.role, name=message.name)
        for number, part in enumerate(message.parts):
            if part.WhichOneof("kind") == "document":
                field = f"input.messages[{index}].parts[{number}].document"
                documents.append(_document(part.document, len(documents), field))
            else:
                copy.parts.append(part)
        if copy.parts:
            kept.append(copy)
            if message.role == message_pb2.ROLE_USER and _text(copy):
                position = len(kept) - 1
    if position < 0:
        raise InvalidArgument.field("input.messages", "add a user message whose text is the question")
    if len(documents) > MAX_INLINE_DOCUMENTS:
        raise InvalidArgument.field(
            "input.messages",
            f"{len(documents)} documents are too many: send {MAX_INLINE_DOCUMENTS}, or ingest them",
        )
    return Question(
        text=_text(kept[position]), documents=tuple(documents), messages=tuple(kept), position=position
    )


def _text(message: message_pb2.Message) -> str:
    return "\n".join(part.text for part in message.parts if part.WhichOneof("kind") == "text").strip()


def _document(media: message_pb2.Media, number: int, field: str) -> RawDocument:
    if media.WhichOneof("source") != "data":
        raise InvalidArgument.field(field, "a pipeline reads documents that are sent as bytes: fill `data`")
    name = media.filename or f"document {number + 1}"
    kind = media_type(media.mime_type, name, field=f"{field}.mime_type")
    return RawDocument(source=name, mime_type=kind, content=media.data, title=media.filename)
