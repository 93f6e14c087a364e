"""An answer as the events of OpenAI's Responses, from `response.created` to the one that ends it."""

from collections.abc import Mapping
from typing import Any

import orjson

from quartet.common.v1 import decision_pb2, generation_pb2, message_pb2
from services.gateway.adapters.openai.errors import response_error
from services.gateway.adapters.openai.response import read_chunk
from services.gateway.adapters.openai.responses_output import (
    COMPLETED,
    FAILED,
    INCOMPLETE,
    Item,
    close_reasoning,
    end_response,
    open_call,
    open_message,
    open_reasoning,
    open_refusal,
    open_response,
    open_text,
    read_likelihoods,
    status_of,
    write_annotation,
)
from services.gateway.domain.dispatch import Event
from services.gateway.domain.ending import interleaved
from services.gateway.domain.headers import Head, facts
from services.kit.errors import QuartetError

_ARGUMENTS = {"function_call": "arguments", "custom_tool_call": "input"}
_CALL_EVENTS = {"function_call": "function_call_arguments", "custom_tool_call": "custom_tool_call_input"}


class ResponseWriter:
    """Writes the frames of one stream; what is the same in all deltas of a part is encoded once."""

    def __init__(self, *, head: Head, model: str, told: Mapping[str, Any]) -> None:
        self._head = head
        self._decision = decision_pb2.Decision()
        self._response = open_response(head, model=model, told=told)
        self._number = 0
        self._open: tuple[int, str] | None = None
        """The part that is being written, by its index and kind."""
        self._before = b""
        self._pieces: list[str] = []
        self._thinking = message_pb2.Thinking()
        self._text: tuple[int, int] | None = None
        """Where the last text stands: its item and its content part."""
        self._citations: list[message_pb2.Citation] = []

    def write(self, event: Event) -> bytes:
        """The frames that an event makes; none for stages and run events."""
        if isinstance(event, generation_pb2.Delta):
            return self._write_delta(event)
        if isinstance(event, decision_pb2.Decision):
            self._decision = event
            self._response["model"] = event.model or self._response["model"]
            return self._tell("response.created") + self._tell("response.in_progress")
        return self._write_end(event) if isinstance(event, generation_pb2.Completion) else b""

    def fail(self, error: QuartetError) -> bytes:
        """The frames that end the stream when its answer cannot go on."""
        written = self._close(ended=INCOMPLETE)
        self._response["status"] = FAILED
        self._response["error"] = response_error(error, self._head.request_id)
        return written + self._tell("response.failed")

    @property
    def _output(self) -> list[Item]:
        output: list[Item] = self._response["output"]
        return output

    def _write_delta(self, delta: generation_pb2.Delta) -> bytes:
        match delta.WhichOneof("kind"):
            case "text":
                opened = self._turn_to("text", delta)
                if delta.HasField("extra") and (found := read_likelihoods(read_chunk(delta.extra)[1])):
                    return opened + self._say_likely(delta.text, found)
                return opened + self._say(delta.text)
            case "refusal":
                opened = self._turn_to("refusal", delta)
                return opened + self._say(delta.refusal)
            case "tool_call":
                opened = self._turn_to("tool_call", delta)
                text = delta.tool_call.input_text or delta.tool_call.arguments_json
                return opened + (self._say(text) if text else b"")
            case "thinking":
                return self._think(delta)
            case "citation":
                self._citations.append(delta.citation)
        return b""

    def _turn_to(self, kind: str, delta: generation_pb2.Delta) -> bytes:
        """Begins a part, and the item that it stands in, unless it is open; ends the one before."""
        if self._open == (delta.part_index, kind):
            return b""
        written = self._close(keeps_message=kind in ("text", "refusal"))
        self._open = (delta.part_index, kind)
        if kind == "tool_call":
            if not delta.tool_call.name:
                raise interleaved()
            bare = message_pb2.ToolCall(id=delta.tool_call.id, name=delta.tool_call.name)
            if delta.tool_call.HasField("input_text"):
                bare.input_text = ""
            item = open_call(bare, self._head, len(self._output))
            written += self._add(item)
            self._prepare(f"response.{_CALL_EVENTS[item['type']]}.delta", item_id=item["id"])
            return written
        if kind == "thinking":
            return written + self._add(open_reasoning(self._head, len(self._output)))
        if not self._output or self._output[-1]["status"] == COMPLETED:
            written += self._add(open_message(self._head, len(self._output)))
        item = self._output[-1]
        place = len(item["content"])
        item["content"].append(open_text() if kind == "text" else open_refusal())
        written += self._frame(
            "response.content_part.added",
            item_id=item["id"],
            output_index=len(self._output) - 1,
            content_index=place,
            part=item["content"][place],
        )
        if kind == "text":
            self._text = (len(self._output) - 1, place)
            self._prepare("response.output_text.delta", item_id=item["id"], content_index=place, logprobs=[])
        else:
            self._prepare("response.refusal.delta", item_id=item["id"], content_index=place)
        return written

    def _add(self, item: Item) -> bytes:
        self._output.append(item)
        return self._frame("response.output_item.added", output_index=len(self._output) - 1, item=item)

    def _prepare(self, kind: str, **members: Any) -> None:
        """What stands before the words of every delta of the part."""
        value = orjson.dumps({"type": kind, "output_index": len(self._output) - 1, **members})
        self._before = b"event: " + kind.encode() + b"\ndata: " + value[:-1] + b',"delta":'

    def _say(self, text: str) -> bytes:
        self._pieces.append(text)
        number = self._number
        self._number += 1
        return self._before + orjson.dumps(text) + b',"sequence_number":%d}\n\n' % number

    def _say_likely(self, text: str, likelihoods: list[Any]) -> bytes:
        self._pieces.append(text)
        item = self._output[-1]
        item["content"][-1]["logprobs"] += likelihoods
        return self._frame(
            "response.output_text.delta",
            item_id=item["id"],
            output_index=len(self._output) - 1,
            content_index=len(item["content"]) - 1,
            logprobs=likelihoods,
            delta=text,
        )

    def _think(self, delta: generation_pb2.Delta) -> bytes:
        written = self._turn_to("thinking", delta)
        thinking = delta.thinking
        self._thinking.signature += thinking.signature
        self._thinking.redacted_data += thinking.redacted_data
        if not thinking.text:
            return written
        item_id = self._output[-1]["id"]
        if not self._pieces:
            part = {"type": "summary_text", "text": ""}
            written += self._frame(
                "response.reasoning_summary_part.added", **self._summary(item_id), part=part
            )
            self._prepare("response.reasoning_summary_text.delta", item_id=item_id, summary_index=0)
        return written + self._say(thinking.text)

    def _summary(self, item_id: str) -> dict[str, Any]:
        return {"item_id": item_id, "output_index": len(self._output) - 1, "summary_index": 0}

    def _close(self, *, keeps_message: bool = False, ended: str = COMPLETED) -> bytes:
        """Ends the open part, and its item unless a message goes on."""
        written = b""
        if self._open is not None:
            kind, text = self._open[1], "".join(self._pieces)
            self._open, self._pieces = None, []
            written += _CLOSERS[kind](self, self._output[-1], text)
        elif not self._output:
            return b""
        item = self._output[-1]
        if item["status"] == COMPLETED or (keeps_message and item["type"] == "message"):
            return written
        item["status"] = ended
        index = len(self._output) - 1
        return written + self._frame("response.output_item.done", output_index=index, item=item)

    def _close_text(self, item: Item, text: str) -> bytes:
        part = item["content"][-1]
        part["text"] = text
        return self._end_content("response.output_text.done", item, text=text, logprobs=part["logprobs"])

    def _close_refusal(self, item: Item, text: str) -> bytes:
        item["content"][-1]["refusal"] = text
        return self._end_content("response.refusal.done", item, refusal=text)

    def _end_content(self, kind: str, item: Item, **members: Any) -> bytes:
        place = {
            "item_id": item["id"],
            "output_index": len(self._output) - 1,
            "content_index": len(item["content"]) - 1,
        }
        written = self._frame(kind, **place, **members)
        return written + self._frame("response.content_part.done", **place, part=item["content"][-1])

    def _close_call(self, item: Item, text: str) -> bytes:
        member = _ARGUMENTS[item["type"]]
        item[member] = text
        more = {member: text} | ({"name": item["name"]} if member == "arguments" else {})
        return self._frame(
            f"response.{_CALL_EVENTS[item['type']]}.done",
            item_id=item["id"],
            output_index=len(self._output) - 1,
            **more,
        )

    def _close_thinking(self, item: Item, text: str) -> bytes:
        self._thinking.text = text
        close_reasoning(item, self._thinking)
        self._thinking = message_pb2.Thinking()
        if not text:
            return b""
        place, part = self._summary(item["id"]), item["summary"][0]
        written = self._frame("response.reasoning_summary_text.done", **place, text=text)
        return written + self._frame("response.reasoning_summary_part.done", **place, part=part)

    def _cite(self, end: generation_pb2.Completion) -> bytes:
        """The sources, which are known only now, to the last text."""
        citations = [citation for part in end.message.parts for citation in part.citations] or self._citations
        if not citations or self._text is None:
            return b""
        index, place = self._text
        item = self._output[index]
        written = b""
        for number, citation in enumerate(citations):
            annotation = write_annotation(citation)
            item["content"][place]["annotations"].append(annotation)
            written += self._frame(
                "response.output_text.annotation.added",
                item_id=item["id"],
                output_index=index,
                content_index=place,
                annotation_index=number,
                annotation=annotation,
            )
        return written

    def _write_end(self, end: generation_pb2.Completion) -> bytes:
        status = status_of(end)
        written = self._cite(end) + self._close(ended=status)
        quartet = facts(self._decision, end, self._head)
        end_response(self._response, end, quartet, at_s=self._head.created_s)
        return written + self._tell(f"response.{status}")

    def _tell(self, kind: str) -> bytes:
        return self._frame(kind, response=self._response)

    def _frame(self, kind: str, **members: Any) -> bytes:
        number = self._number
        self._number += 1
        value = orjson.dumps({"type": kind, "sequence_number": number, **members})
        return b"event: " + kind.encode() + b"\ndata: " + value + b"\n\n"


_CLOSERS = {
    "text": ResponseWriter._close_text,
    "refusal": ResponseWriter._close_refusal,
    "tool_call": ResponseWriter._close_call,
    "thinking": ResponseWriter._close_thinking,
}
