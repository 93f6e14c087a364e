"""Anthropic's Messages request, into the canonical prompt."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from quartet.common.v1 import generation_pb2, message_pb2
from quartet.router.v1 import router_pb2
from services.gateway.adapters.anthropic.content import read_blocks, read_turn
from services.gateway.adapters.extras import ANTHROPIC, keep_rest
from services.gateway.adapters.fields import Fields, read_body, refuse, write_json
from services.gateway.domain.front import Order
from services.gateway.domain.targets import parse_target

MAX_MESSAGES = 4096
MAX_BETA_CHARS = 1024
BETA = "anthropic-beta"
_BETA = re.compile(r"[\w.,:/ -]+", re.ASCII)
_ROLES: Mapping[str, message_pb2.Role.ValueType] = {
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
    "system": message_pb2.ROLE_SYSTEM,
}
_MODES: Mapping[str, generation_pb2.ToolChoice.Mode.ValueType] = {
    "auto": generation_pb2.ToolChoice.MODE_AUTO,
    "any": generation_pb2.ToolChoice.MODE_REQUIRED,
    "none": generation_pb2.ToolChoice.MODE_NONE,
    "tool": generation_pb2.ToolChoice.MODE_NAMED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRequest:
    """A messages request and how its answer is to be written."""

    order: Order
    model: str
    stream: bool


def read_message(body: bytes, *, counting: bool = False, beta: str = "") -> MessageRequest:
    """Reads the body; raises InvalidArgument with the member at fault. Counting needs no `max_tokens`.

    Args:
        body: The JSON that was posted.
        counting: Whether only its tokens are wanted.
        beta: The header that switches parts of the API on; it goes on to a provider of this dialect.
    """
    fields = read_body(body)
    model = fields.required_text("model")
    target = parse_target(model)
    if not counting:
        fields.require("max_tokens")
    stream = fields.flag("stream") or False
    prompt = router_pb2.Prompt(spec=_read_spec(fields))
    _read_messages(fields, prompt)
    if rest := fields.rest():
        prompt.spec.extra_json = write_json(rest, "body")
        prompt.spec.extra_dialect = ANTHROPIC
    if beta:
        if len(beta) > MAX_BETA_CHARS or not _BETA.fullmatch(beta):
            wrong = f"must be names with commas between, at most {MAX_BETA_CHARS} characters"
            raise refuse(BETA, wrong, reason="INVALID_HEADER")
        prompt.spec.extras.add(dialect=ANTHROPIC, json=write_json({BETA: beta}, BETA))
    return MessageRequest(order=Order(target, prompt), model=model, stream=stream)


def _read_spec(fields: Fields) -> generation_pb2.GenerationSpec:
    top_p = fields.number("top_p", least=0, most=1)
    if top_p == 0:
        raise refuse("top_p", "must be above 0; for the likeliest words set `temperature` to 0")
    spec = generation_pb2.GenerationSpec(
        max_output_tokens=fields.integer("max_tokens", least=1),
        temperature=fields.number("temperature", least=0, most=1),
        top_p=top_p,
        top_k=fields.integer("top_k", least=1),
        stop=_stop(fields),
    )
    for tool in fields.children("tools"):
        spec.tools.append(_read_tool(tool))
    _read_tool_choice(fields, spec)
    _read_thinking(fields, spec)
    _read_output(fields, spec)
    return spec


def _stop(fields: Fields) -> list[str]:
    texts = fields.items("stop_sequences")
    if len(texts) > 16 or not all(isinstance(text, str) and 0 < len(text) <= 1024 for text in texts):
        raise refuse("stop_sequences", "must be at most 16 strings, each of 1 to 1,024 characters")
    return texts


def _read_tool(tool: Fields) -> generation_pb2.Tool:
    name = tool.text("name")
    if (kind := tool.text("type", "custom")) != "custom":
        read = generation_pb2.Tool(name=name or kind, builtin_json=tool.whole())
        read.extra.dialect = ANTHROPIC
        return read
    tool.required_child("input_schema")
    read = generation_pb2.Tool(
        name=tool.required_text("name"),
        description=tool.text("description"),
        input_schema_json=tool.raw("input_schema"),
        strict=tool.flag("strict"),
        cache_control_json=tool.raw("cache_control"),
    )
    keep_rest(tool, read, ANTHROPIC)
    return read


def _read_tool_choice(fields: Fields, spec: generation_pb2.GenerationSpec) -> None:
    choice = fields.child("tool_choice")
    if choice is None:
        return
    spec.tool_choice.mode = choice.choice("type", _MODES)
    if spec.tool_choice.mode == generation_pb2.ToolChoice.MODE_NAMED:
        spec.tool_choice.name = choice.required_text("name")
    alone = choice.flag("disable_parallel_tool_use")
    if alone is not None:
        spec.parallel_tool_calls = not alone


def _read_thinking(fields: Fields, spec: generation_pb2.GenerationSpec) -> None:
    thinking = fields.child("thinking")
    if thinking is None:
        return
    spec.reasoning.mode = thinking.required_text("type")
    budget = thinking.integer("budget_tokens", least=1)
    if budget is not None:
        spec.reasoning.budget_tokens = budget


def _read_output(fields: Fields, spec: generation_pb2.GenerationSpec) -> None:
    output = fields.child("output_config")
    if output is None:
        return
    if effort := output.text("effort"):
        spec.reasoning.effort = effort
    form = output.child("format")
    if form is not None:
        if form.required_text("type") != "json_schema":
            raise refuse("output_config.format.type", "must be json_schema")
        form.required_child("schema")
        spec.response_format.kind = generation_pb2.ResponseFormat.KIND_JSON_SCHEMA
        spec.response_format.schema_json = form.raw("schema")


def _read_messages(fields: Fields, prompt: router_pb2.Prompt) -> None:
    system = read_blocks(fields, "system")
    if system:
        prompt.messages.append(message_pb2.Message(role=message_pb2.ROLE_SYSTEM, parts=system))
    fields.require("messages")
    count = len(fields.items("messages"))
    if not 1 <= count <= MAX_MESSAGES:
        raise refuse("messages", f"must have 1 to {MAX_MESSAGES} messages")
    for message in fields.children("messages"):
        role = message.choice("role", _ROLES)
        message.require("content")
        prompt.messages.extend(read_turn(message, role))
