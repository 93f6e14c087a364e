"""What the tests of the provider double ask it, by the vendors' own clients."""

from typing import Any

import anthropic
import openai
from anthropic.types import ToolParam
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

GPT = "gpt-6-luna"
CLAUDE = "claude-haiku-5-5"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
    "required": ["city", "days"],
}
OPENAI_TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "forecast", "parameters": SCHEMA},
}
ANTHROPIC_TOOL: ToolParam = {"name": "forecast", "input_schema": SCHEMA}


def user(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


async def ask_gpt(client: openai.AsyncOpenAI, text: str = "Hello there", **more: Any) -> Any:
    return await client.chat.completions.create(model=GPT, messages=user(text), **more)


async def ask_claude(client: anthropic.AsyncAnthropic, text: str = "Hello there", **more: Any) -> Any:
    return await client.messages.create(
        model=more.pop("model", CLAUDE),
        max_tokens=1000,
        messages=[{"role": "user", "content": text}],
        **more,
    )


async def texts_of_gpt(client: openai.AsyncOpenAI, **more: Any) -> list[str]:
    stream = await ask_gpt(client, stream=True, **more)
    return [chunk.choices[0].delta.content async for chunk in stream if chunk.choices[0].delta.content]
