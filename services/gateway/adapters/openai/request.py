"""OpenAI's Chat Completions request, into the canonical prompt."""

from collections.abc import Mapping
from dataclasses import dataclass

from quartet.common.v1 import generation_pb2
from quartet.router.v1 import router_pb2
from services.gateway.adapters.extras import OPENAI, keep_rest
from services.gateway.adapters.fields import Fields, read_body, refuse, write_json
from services.gateway.adapters.openai.content import read_messages
from services.gateway.domain.front import Order
from services.gateway.domain.targets import parse_target

_INT64 = 2**63
TOOL_MODES: Mapping[str, generation_pb2.ToolChoice.Mode.ValueType] = {
    "auto": generation_pb2.ToolChoice.MODE_AUTO,
    "none": generation_pb2.ToolChoice.MODE_NONE,
    "required": generation_pb2.ToolChoice.MODE_REQUIRED,
}
_REMEDIES: Mapping[str, str] = {
    "functions": "is OpenAI's old form: declare them in `tools`",
    "function_call": "is OpenAI's old form: use `tool_choice`",
    "audio": "is not offered: ask for text",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A chat request and how its answer is to be written."""

    order: Order
    model: str
    stream: bool
    include_usage: bool


def read_chat(body: bytes) -> ChatRequest:
    """Reads the body; raises InvalidArgument with the member at fault.

    Members that only one provider knows, such as `logprobs`, go on in `extra_json` unchanged.
    """
    fields = read_body(body)
    model = fields.required_text("model")
    target = parse_target(model)
    _refuse_unsupported(fields)
    stream = fields.flag("stream") or False
    options = fields.child("stream_options")
    include_usage = bool(options and options.flag("include_usage"))
    prompt = router_pb2.Prompt(spec=_read_spec(fields), messages=read_messages(fields))
    rest = fields.rest()
    if rest:
        prompt.spec.extra_json = write_json(rest, "body")
        prompt.spec.extra_dialect = OPENAI
    return ChatRequest(order=Order(target, prompt), model=model, stream=stream, include_usage=include_usage)


def _refuse_unsupported(fields: Fields) -> None:
    if (fields.integer("n", least=1, most=128) or 1) > 1:
        raise refuse("n", "must be 1: ask again for another answer")
    for name, remedy in _REMEDIES.items():
        if fields.get(name) is not None:
            raise refuse(name, remedy)
    if any(modality != "text" for modality in fields.items("modalities")):
        raise refuse("modalities", "must be text alone")


def _read_spec(fields: Fields) -> generation_pb2.GenerationSpec:
    limit = fields.integer("max_tokens", least=1)
    spec = generation_pb2.GenerationSpec(
        max_output_tokens=fields.integer("max_completion_tokens", least=1) or limit,
        temperature=fields.number("temperature", least=0, most=2),
        top_p=read_top_p(fields),
        stop=_stop(fields),
        parallel_tool_calls=fields.flag("parallel_tool_calls"),
        seed=fields.integer("seed", least=-_INT64, most=_INT64 - 1),
    )
    for tool in fields.children("tools"):
        spec.tools.append(_read_tool(tool))
    _read_tool_choice(fields, spec)
    _read_format(fields, spec)
    if effort := fields.text("reasoning_effort"):
        spec.reasoning.effort = effort
    return spec


def read_top_p(fields: Fields) -> float | None:
    """Nucleus sampling, above 0."""
    top_p = fields.number("top_p", least=0, most=1)
    if top_p == 0:
        raise refuse("top_p", "must be above 0; for the likeliest words set `temperature` to 0")
    return top_p


def _stop(fields: Fields) -> list[str]:
    value = fields.get("stop")
    texts = [value] if isinstance(value, str) else fields.items("stop")
    if len(texts) > 16 or not all(isinstance(text, str) and 0 < len(text) <= 1024 for text in texts):
        raise refuse("stop", "must be a string or at most 16 of them, each of 1 to 1,024 characters")
    return texts


def _read_tool(tool: Fields) -> generation_pb2.Tool:
    if tool.required_text("type") != "function":
        kind = tool.text("type")
        named = tool.child(kind)
        read = generation_pb2.Tool(
            name=named.text("name") or kind if named else kind, builtin_json=tool.whole()
        )
        read.extra.dialect = OPENAI
        return read
    function = tool.required_child("function")
    read = generation_pb2.Tool(
        name=function.required_text("name"),
        description=function.text("description"),
        input_schema_json=function.raw("parameters"),
        strict=function.flag("strict"),
    )
    keep_rest(tool, read, OPENAI)
    return read


def _read_tool_choice(fields: Fields, spec: generation_pb2.GenerationSpec) -> None:
    choice = fields.peek("tool_choice")
    if isinstance(choice, dict):
        kind = Fields(choice, "tool_choice").required_text("type")
        if kind == "function":
            named = fields.required_child("tool_choice")
            named.get("type")
            spec.tool_choice.mode = generation_pb2.ToolChoice.MODE_NAMED
            spec.tool_choice.name = named.required_child("function").required_text("name")
        elif kind not in ("custom", "allowed_tools"):
            raise refuse("tool_choice.type", "must be one of function, custom, allowed_tools")
    elif choice is not None:
        if not isinstance(choice, str) or choice not in TOOL_MODES:
            raise refuse("tool_choice", f"must be one of {', '.join(TOOL_MODES)}, or an object")
        fields.get("tool_choice")
        spec.tool_choice.mode = TOOL_MODES[choice]


def _read_format(fields: Fields, spec: generation_pb2.GenerationSpec) -> None:
    wanted = fields.child("response_format")
    if wanted is not None:
        has_schema = wanted.peek("type") == "json_schema"
        schema = wanted.required_child("json_schema") if has_schema else wanted
        read_form(wanted, schema, spec.response_format)


def read_form(wanted: Fields, schema: Fields, form: generation_pb2.ResponseFormat) -> None:
    """The form of the answer; its schema stands beside the type, or in an object of its own."""
    match wanted.required_text("type"):
        case "text":
            form.kind = generation_pb2.ResponseFormat.KIND_TEXT
        case "json_object":
            form.kind = generation_pb2.ResponseFormat.KIND_JSON_OBJECT
        case "json_schema":
            form.kind = generation_pb2.ResponseFormat.KIND_JSON_SCHEMA
            form.name = schema.required_text("name")
            form.description = schema.text("description")
            form.schema_json = schema.raw("schema")
            strict = schema.flag("strict")
            if strict is not None:
                form.strict = strict
        case _:
            raise refuse(wanted.path("type"), "must be one of text, json_object, json_schema")
