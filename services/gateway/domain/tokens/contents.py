"""What a prompt is made of, for counting: its texts, and the tokens of everything that is no text."""

from collections.abc import Iterable

from quartet.common.v1 import generation_pb2, message_pb2
from services.gateway.domain.tokens.counting import Counting
from services.gateway.domain.tokens.documents import PAGE_BYTES, PAGES_BY_ADDRESS, count_pages, page_tokens
from services.gateway.domain.tokens.pictures import read_size

ESTIMATED_BYTES_PER_TOKEN = 4
"""Of English text; used where the bytes prove that no limit is near and nothing is counted."""


class Contents:
    """The texts of a prompt, and the tokens of everything that is no text.

    Attributes:
        fixed_tokens: By the model's own formulas, as far as it has any.
        is_plain: False once anything is estimated, or framed in a way that is not published.
    """

    __slots__ = ("counting", "fixed_tokens", "is_plain", "texts")

    def __init__(
        self,
        messages: Iterable[message_pb2.Message],
        spec: generation_pb2.GenerationSpec,
        counting: Counting,
    ) -> None:
        self.counting = counting
        self.texts: list[str] = []
        self.fixed_tokens = counting.per_answer
        self.is_plain = True
        for message in messages:
            self.fixed_tokens += counting.per_message
            if message.name:
                self.fixed_tokens += 1
                self.texts.append(message.name)
            self._add_parts(message.parts)
        if spec.tools:
            self.is_plain = False
            offer = counting.tools.measure(spec.tools, spec.tool_choice.mode)
            self.texts += offer.texts
            self.fixed_tokens += offer.tokens
        if spec.response_format.schema_json:
            self.is_plain = False
            self.texts.append(spec.response_format.schema_json)

    def bound(self) -> tuple[int, int]:
        """What the prompt can have at most, since a token has at least one byte, and what it likely has."""
        text_bytes = sum(len(text) if text.isascii() else len(text.encode()) for text in self.texts)
        likely = -(-text_bytes // ESTIMATED_BYTES_PER_TOKEN)
        return self.counting.scale(text_bytes) + self.fixed_tokens, likely + self.fixed_tokens

    def _add_parts(self, parts: Iterable[message_pb2.Part]) -> None:
        for part in parts:
            self._add_foreign(part.extra)
            match part.WhichOneof("kind"):
                case "text" | "refusal":
                    self.texts.append(part.text or part.refusal)
                case "opaque":
                    self._add_foreign(part.opaque)
                case "tool_call":
                    self.is_plain = False
                    call = part.tool_call
                    self.texts += (call.name, call.arguments_json, call.input_text)
                case "tool_result":
                    self._add_parts(part.tool_result.content)
                case "thinking":
                    self.is_plain = False
                    self.texts.append(part.thinking.text)
                case "passage":
                    self.texts += (part.passage.title, part.passage.text)
                case "image":
                    self.is_plain = False
                    size = read_size(part.image.data)
                    self.fixed_tokens += self.counting.images.tokens(size, part.image.detail)
                case "document":
                    self.is_plain = False
                    self._add_file(part.document)

    def _add_foreign(self, extra: message_pb2.Extra) -> None:
        if extra.json:
            self.is_plain = False
            self.texts.append(extra.json)

    def _add_file(self, file: message_pb2.Media) -> None:
        if file.WhichOneof("source") != "data":
            pages = PAGES_BY_ADDRESS
        elif file.mime_type.startswith("text/"):
            self.texts.append(file.data.decode(errors="replace"))
            return
        elif file.data.startswith(b"%PDF"):
            pages = count_pages(file.data)
        else:
            pages = -(-len(file.data) // PAGE_BYTES)
        self.fixed_tokens += pages * page_tokens(self.counting.images)
