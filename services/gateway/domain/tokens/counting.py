"""How the tokens of each model are counted: its vocabulary, and the published figures around the text.

Messages: "How to count tokens with tiktoken", section 6, in OpenAI's cookbook
(https://github.com/openai/openai-cookbook). For models whose vocabulary is not public the count is an
estimate of ours, of o200k times a factor: 1.1 for Anthropic's earlier models; 1.3 times that for those from
4.7 on, of which its "Migration guide" says that the same text has about 30 % more tokens (October 2026).
"""

import re
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from functools import lru_cache

from services.gateway.domain.tokens.images import Budget, ImageFormula, Patches, Tiles, VisualTokens
from services.gateway.domain.tokens.tools import FunctionSignatures, ToolFormula, ToolPrompt


class Vocabulary(Enum):
    """The vocabularies that can be counted with."""

    O200K = "o200k_base"
    CL100K = "cl100k_base"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """How the tokens of a model are counted: the vocabulary's count times the factor, and what frames it.

    Attributes:
        exact: Whether that is the model's own vocabulary.
        per_message: Around each message, its role included.
        per_answer: To begin the answer.
    """

    vocabulary: Vocabulary
    exact: bool
    images: ImageFormula
    tools: ToolFormula
    factor: Fraction = Fraction(1)
    per_message: int = 4
    per_answer: int = 3

    def scale(self, tokens: int) -> int:
        """The vocabulary's count as the model's."""
        return -(-tokens * self.factor.numerator // self.factor.denominator)


_RATE = Fraction(6, 5)
_HALF_MEGAPIXEL = Budget(patches=256, edge_px=512)
_HIGH = Budget(patches=2500, edge_px=2048)
_ORIGINAL = Budget(patches=10_000, edge_px=6000)
_UNSHRUNK = Budget(patches=30_000, edge_px=65_535)
"""More is refused by the model itself."""
_SMALL = Budget(patches=1536)

_GPT_4O = Counting(
    vocabulary=Vocabulary.O200K,
    exact=True,
    images=Tiles(base=85, tile=170),
    tools=FunctionSignatures(function=7),
)
_GPT_4 = replace(_GPT_4O, vocabulary=Vocabulary.CL100K, tools=FunctionSignatures(function=10))


def _patched(rate: Fraction, auto: Budget, **details: Budget) -> Counting:
    return replace(_GPT_4O, images=Patches(rate=rate, auto=auto, details=details))


def _tiled(base: int, tile: int) -> Counting:
    return replace(_GPT_4O, images=Tiles(base=base, tile=tile))


_OPENAI: tuple[tuple[re.Pattern[str], Counting], ...] = tuple(
    (re.compile(pattern), counting)
    for pattern, counting in (
        # GPT-6 keeps to the patches alone at high detail (measured: 2,442 of 2,560 by 1,440 px).
        (r"gpt-[6-9]", _patched(_RATE, _UNSHRUNK, low=_HALF_MEGAPIXEL, high=Budget(patches=2500))),
        (r"gpt-5\.[6-9]", _patched(_RATE, _UNSHRUNK, low=_HALF_MEGAPIXEL, high=_HIGH)),
        (r"gpt-5\.5", _patched(_RATE, _ORIGINAL, low=_HALF_MEGAPIXEL, high=_HIGH)),
        (r"gpt-5\.4-(mini|nano)", _patched(_RATE, _SMALL)),
        (r"gpt-5\.4", _patched(_RATE, _HIGH, low=_HALF_MEGAPIXEL, original=_ORIGINAL)),
        (r"gpt-5\.[23]", _patched(_RATE, _SMALL)),
        (r"gpt-(5|4\.1)-mini", _patched(Fraction(162, 100), _SMALL)),
        (r"gpt-(5|4\.1)-nano", _patched(Fraction(246, 100), _SMALL)),
        (r"o4-mini", _patched(Fraction(172, 100), _SMALL)),
        (r"gpt-5", _tiled(70, 140)),
        (r"gpt-4o-mini", _tiled(2833, 5667)),
        (r"gpt-4(o|\.1|\.5)|chatgpt-", _GPT_4O),
        (r"o[1-9](-|$)", _tiled(75, 150)),
        (r"gpt-4(-|$)|gpt-3\.5|gpt-35|text-embedding-(3-|ada-002)", _GPT_4),
    )
)
"""By the beginning of the name; the first that fits."""

_HIGH_RESOLUTION = VisualTokens(edge_px=2576, most=4784)
_STANDARD_RESOLUTION = VisualTokens(edge_px=1568, most=1568)
_TOOL_PROMPTS = {
    (3, 5): ToolPrompt(free=264, forced=355),
    (4, 0): ToolPrompt(free=313, forced=315),
    (4, 1): ToolPrompt(free=313, forced=315),
    (4, 5): ToolPrompt(free=496, forced=588),
    (4, 6): ToolPrompt(free=497, forced=589),
    (4, 7): ToolPrompt(free=675, forced=804),
    (4, 8): ToolPrompt(free=290, forced=410),
}
_LATEST_TOOL_PROMPT = ToolPrompt(free=354, forced=474)
"""Of Sonnet 5, the last in the list; later models are taken to have the same."""
_CLAUDE = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:-(\d{1,2}))?(?!\d)")
_FIRST_LATER_CLAUDE = (4, 7)

_OTHERS = replace(_GPT_4O, exact=False, images=_HIGH_RESOLUTION)
"""Estimated with the newest vocabulary and Anthropic's formula for pictures, the middle one."""


@lru_cache(maxsize=512)
def counting_of(model: str) -> Counting:
    """How a model's tokens are counted; an empty or unknown name is an estimate."""
    for pattern, counting in _OPENAI:
        if pattern.match(model):
            return counting
    at = model.find("claude")
    return _OTHERS if at < 0 else _claude(model[at:])


def _claude(model: str) -> Counting:
    found = _CLAUDE.match(model)
    version = (int(found[1]), int(found[2] or 0)) if found else (99, 0)
    later = version >= _FIRST_LATER_CLAUDE
    return Counting(
        vocabulary=Vocabulary.O200K,
        exact=False,
        images=_HIGH_RESOLUTION if later else _STANDARD_RESOLUTION,
        tools=_TOOL_PROMPTS.get(version, _LATEST_TOOL_PROMPT),
        factor=Fraction(143, 100) if later else Fraction(11, 10),
        per_message=3,
        per_answer=0,
    )
