"""OpenAI's Responses request, into the canonical prompt. Nothing is kept between requests."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from quartet.common.v1 import generation_pb2
from quartet.router.v1 import router_pb2
from services.gateway.adapters.extras import OPENAI, RESPONSES, keep_rest
from services.gateway.adapters.fields import Fields, read_body, refuse, write_json
from services.gateway.adapters.openai.request import TOOL_MODES, read_form, read_top_p
from services.gateway.adapters.openai.responses_input import read_input
from services.gateway.domain.front import Order
from services.gateway.domain.targets import parse_target

_REMEDIES: Mapping[str, str] = {
    "previous_response_id": "is not offered: nothing is kept here, so send the earlier items in `input`",
    "conversation": "is not offered: nothing is kept here, so send the earlier items in `input`",
    "prompt": "is not offered: send the stored prompt's text as `instructions`",
}
_ONLY_HERE = ("context_management", "max_tool_calls", "access_programs", "image", "background_options")
"""Members that Chat Completions does not have, in which the models are asked."""
_INCLUDABLE = ("reasoning.encrypted_content", "message.output_text.logprobs")
_DEFAULTS: Mapping[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "service_tier": "default",
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""What a response says of its request where that says nothing, as the vendor's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRequest:
    """A request and how its answer is to be written.

    Attributes:
        told: The members of the request that its response repeats.
    """

    order: Order
    model: str
    stream: bool
    told: Mapping[str, Any]


def read_response(body: bytes) -> ResponseRequest:
    """Reads the body; raises InvalidArgument with the member at fault.

    `store` is taken and nothing is stored, which the response says. Members that Chat Completions has, too,
    go on in `extra_json`; what it has not is named in `x-quartet-adapted` by the router.
    """
    fields = read_body(body)
    model = fields.required_text("model")
    target = parse_target(model)
    for name, remedy in _REMEDIES.items():
        if fields.get(name) is not None:
            raise refuse(name, remedy)
    if fields.flag("background"):
        raise refuse("background", "must be false: wait for the answer, or start a run of the orchestrator")
    fields.flag("store")
    stream = fields.flag("stream") or False
    told = {name: _told(name, fields.peek(name), usual) for name, usual in _DEFAULTS.items()}
    prompt = router_pb2.Prompt(messages=read_input(fields), spec=_read_spec(fields))
    return ResponseRequest(order=Order(target, prompt), model=model, stream=stream, told=told)


def _told(name: str, value: Any, usual: Any) -> Any:
    """What the response repeats; an object is encoded once for all of a stream's events."""
    if value is None:
        return usual
    if isinstance(usual, dict) and isinstance(value, dict):
        value = {**usual, **value}
    return orjson.Fragment(write_json(value, name)) if isinstance(value, dict | list) else value


def _read_spec(fields: Fields) -> generation_pb2.GenerationSpec:
    spec = generation_pb2.GenerationSpec(
        max_output_tokens=fields.integer("max_output_tokens", least=1),
        temperature=fields.number("temperature", least=0, most=2),
        top_p=read_top_p(fields),
        parallel_tool_calls=fields.flag("parallel_tool_calls"),
        tools=map(_read_tool, fields.children("tools")),
    )
    shared, foreign = _read_extras(fields)
    if choice := _read_tool_choice(fields, spec):
        shared["tool_choice"] = choice
    if (reasoning := fields.child("reasoning")) is not None:
        spec.reasoning.effort = reasoning.text("effort")
        if rest := reasoning.rest():
            foreign["reasoning"] = rest
    if (text := fields.child("text")) is not None:
        shared |= _read_text(text, spec)
    shared |= {name: value for name, value in fields.rest().items() if name not in ("reasoning", "text")}
    if shared:
        spec.extra_json, spec.extra_dialect = write_json(shared, "body"), OPENAI
    if foreign:
        spec.extras.add(dialect=RESPONSES, json=write_json(foreign, "body"))
    return spec


def _read_text(text: Fields, spec: generation_pb2.GenerationSpec) -> dict[str, Any]:
    """Sets the form; the rest, such as `verbosity`, stands beside it in Chat Completions."""
    form = text.child("format")
    if form is not None:
        read_form(form, form, spec.response_format)
    rest = text.rest()
    rest.pop("format", None)
    return rest


def _read_extras(fields: Fields) -> tuple[dict[str, Any], dict[str, Any]]:
    """Members in the words of Chat Completions, and those that it has no words for."""
    shared: dict[str, Any] = {}
    foreign = {name: value for name in _ONLY_HERE if (value := fields.get(name)) is not None}
    if fields.text("truncation", "disabled") != "disabled":
        foreign["truncation"] = fields.get("truncation")
    included = fields.items("include")
    if others := [name for name in included if name not in _INCLUDABLE]:
        foreign["include"] = others
    likeliest = fields.integer("top_logprobs", least=0, most=20)
    if likeliest or "message.output_text.logprobs" in included:
        shared["logprobs"] = True
        if likeliest:
            shared["top_logprobs"] = likeliest
    return shared, foreign


def _read_tool(tool: Fields) -> generation_pb2.Tool:
    kind = tool.required_text("type")
    if kind == "function":
        read = generation_pb2.Tool(
            name=tool.required_text("name"),
            description=tool.text("description"),
            input_schema_json=tool.raw("parameters"),
            strict=tool.flag("strict"),
        )
        keep_rest(tool, read, RESPONSES)
        return read
    if kind == "custom":
        name = tool.required_text("name")
        custom = {"name": name, "description": tool.text("description"), "format": _read_custom_form(tool)}
        declared = {"type": kind, kind: {member: value for member, value in custom.items() if value}}
        read = generation_pb2.Tool(name=name, builtin_json=write_json(declared, tool.path("custom")))
        read.extra.dialect = OPENAI
        return read
    read = generation_pb2.Tool(name=kind[:256], builtin_json=tool.whole())
    read.extra.dialect = RESPONSES
    return read


def _read_custom_form(tool: Fields) -> dict[str, Any] | None:
    """A grammar stands in an object of its own in Chat Completions."""
    form = tool.child("format")
    if form is None:
        return None
    kind = form.required_text("type")
    return {"type": kind, kind: rest} if (rest := form.rest()) else {"type": kind}


def _read_tool_choice(fields: Fields, spec: generation_pb2.GenerationSpec) -> dict[str, Any] | None:
    """Sets the choice; one that the canonical form does not have is returned as Chat Completions has it."""
    choice = fields.get("tool_choice")
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice not in TOOL_MODES:
            raise refuse("tool_choice", f"must be one of {', '.join(TOOL_MODES)}, or an object")
        spec.tool_choice.mode = TOOL_MODES[choice]
        return None
    named = Fields(choice, "tool_choice")
    match named.required_text("type"):
        case "function":
            spec.tool_choice.mode = generation_pb2.ToolChoice.MODE_NAMED
            spec.tool_choice.name = named.required_text("name")
            return None
        case "custom":
            return {"type": "custom", "custom": {"name": named.required_text("name")}}
        case "allowed_tools":
            allowed = [_name_tool(tool) for tool in named.children("tools")]
            mode = named.text("mode", "auto")
            return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": allowed}}
    raise refuse("tool_choice.type", "must be one of function, custom, allowed_tools")


def _name_tool(tool: Fields) -> dict[str, Any]:
    kind = tool.required_text("type")
    return {"type": kind, kind: {"name": tool.required_text("name")}}
