"""What a picture costs in tokens, by the formula that its model's vendor publishes.

OpenAI: the guide "Images and vision", sections "Model sizing behavior" and "Calculating costs"
(https://developers.openai.com/api/docs/guides/images-vision), as of September 2026. Anthropic: "Vision",
section "Resolution and token cost" (https://platform.claude.com/docs/en/build-with-claude/vision), as of
October 2026. A picture whose size is not known, as one by address, counts as the largest the model takes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from services.gateway.domain.tokens.pictures import Size

LOW = "low"


class ImageFormula(Protocol):
    """The tokens of one picture."""

    def tokens(self, size: Size | None, detail: str) -> int:
        """For a size, or the most for None; `detail` is `low`, `high`, `original`, `auto` or empty."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """OpenAI's earlier models: fitted into 2,048 px square, the short side to 768 px, then tiles of 512 px.

    Attributes:
        base: Tokens of any picture; all of them at low detail.
        tile: Tokens of each tile.
    """

    base: int
    tile: int

    _SQUARE_PX = 2048
    _SHORT_SIDE_PX = 768
    _TILE_PX = 512
    _MOST_TILES = 8

    def tokens(self, size: Size | None, detail: str) -> int:
        if detail == LOW:
            return self.base
        return self.base + self.tile * (self._MOST_TILES if size is None else self._tiles(size))

    def _tiles(self, size: Size) -> int:
        scale = min(1.0, self._SQUARE_PX / max(size), self._SHORT_SIDE_PX / min(size))
        wide, high = (_ceil(side * scale / self._TILE_PX) for side in size)
        return min(wide * high, self._MOST_TILES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a picture is shrunk to.

    Attributes:
        patches: At most so many.
        edge_px: The longer side at most; None for any.
    """

    patches: int
    edge_px: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patches:
    """OpenAI's later models: as many patches of 32 px as cover the picture, times a rate.

    Attributes:
        rate: Tokens of a patch.
        auto: Where no detail is named, or `auto`, or one that the model does not know.
        details: The budgets of the details that the model tells apart.
    """

    rate: Fraction
    auto: Budget
    details: Mapping[str, Budget] = field(default_factory=dict)

    _PATCH_PX = 32

    def tokens(self, size: Size | None, detail: str) -> int:
        budget = self.details.get(detail, self.auto)
        patches = budget.patches if size is None else self._cover(size, budget)
        return math.ceil(patches * self.rate)

    def _cover(self, size: Size, budget: Budget) -> int:
        fit = min(1.0, budget.edge_px / max(size)) if budget.edge_px else 1.0
        wide, high = (side * fit / self._PATCH_PX for side in size)
        patches = _ceil(wide) * _ceil(high)
        if patches <= budget.patches:
            return patches
        # As published: shrunk to the budget's area, then until one side is a whole number of patches.
        shrink = math.sqrt(budget.patches / (wide * high))
        wide, high = wide * shrink, high * shrink
        whole = min(max(1, math.floor(wide)) / wide, max(1, math.floor(high)) / high)
        return min(_ceil(wide * whole) * _ceil(high * whole), budget.patches)


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualTokens:
    """Anthropic's models: a token for each patch of 28 px, on a picture shrunk to fit both limits.

    Attributes:
        edge_px: The longer side at most.
        most: Tokens at most.
    """

    edge_px: int
    most: int

    _PATCH_PX = 28

    def tokens(self, size: Size | None, detail: str) -> int:
        del detail  # Anthropic's models have one way to look
        if size is None:
            return self.most
        long, short = max(size), min(size)
        if long <= self.edge_px and (tokens := self._cover(long, short)) <= self.most:
            return tokens
        # The largest side that fits; what it covers grows with it.
        fits, fails = 1, min(long, self.edge_px) + 1
        while fails - fits > 1:
            middle = (fits + fails) // 2
            if self._cover(middle, middle * short / long) <= self.most:
                fits = middle
            else:
                fails = middle
        return min(self._cover(fits, fits * short / long), self.most)

    def _cover(self, long_px: float, short_px: float) -> int:
        return max(1, _ceil(long_px / self._PATCH_PX)) * max(1, _ceil(round(short_px) / self._PATCH_PX))


def _ceil(number: float) -> int:
    """Rounded up, with what floating point adds to a whole number let pass."""
    return max(1, math.ceil(number - 1e-9))
