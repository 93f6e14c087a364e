"""A model provider that is a real HTTP server: the OpenAI and Anthropic wire formats, on demand at fault."""

from tests.doubles.provider.ledger import Disconnect, RecordedRequest
from tests.doubles.provider.script import Fault, Match, Reply, Rule, ToolCall, Usage
from tests.doubles.provider.server import ProviderDouble

__all__ = [
    "Disconnect",
    "Fault",
    "Match",
    "ProviderDouble",
    "RecordedRequest",
    "Reply",
    "Rule",
    "ToolCall",
    "Usage",
]
