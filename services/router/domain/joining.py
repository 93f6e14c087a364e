"""Pieces of an answer that are there together need not be sent apart."""

from quartet.common.v1.generation_pb2 import Delta


def append_joined(deltas: list[Delta], delta: Delta) -> None:
    """Adds a delta, to the one before it where that is of the same part and kind of words.

    The delta before is changed then.
    """
    if deltas and deltas[-1].part_index == delta.part_index and not delta.HasField("extra"):
        last, kind = deltas[-1], delta.WhichOneof("kind")
        if kind == last.WhichOneof("kind"):
            match kind:
                case "text":
                    last.text += delta.text
                    return
                case "refusal":
                    last.refusal += delta.refusal
                    return
                case "tool_call" if not delta.tool_call.id and not delta.tool_call.name:
                    last.tool_call.arguments_json += delta.tool_call.arguments_json
                    if delta.tool_call.HasField("input_text"):
                        last.tool_call.input_text += delta.tool_call.input_text
                    return
                case "thinking" if delta.thinking.text and not last.thinking.signature:
                    last.thinking.text += delta.thinking.text
                    return
    deltas.append(delta)
