"""The learned weights' file: int8 tables with a scale for each column, in safetensors, which runs no code."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from services.kit.errors import FailedPrecondition
from services.router.learned.bag import Bag, Floats, Vocabulary

SHIPPED = Path(__file__).with_name("weights.safetensors")
FORMAT = "quartet-learned-2"
_INT8 = 127.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Named arrays, and a JSON description of what arrays cannot say (labels, thresholds, bits)."""

    arrays: dict[str, NDArray[Any]]
    description: dict[str, Any]

    def floats(self, name: str) -> Floats:
        """An array as float32; a table is multiplied by its scales."""
        array = self.arrays[name].astype(np.float32)
        scale = self.arrays.get(f"{name}.scale")
        return array if scale is None else array * scale.astype(np.float32)

    def bag(self, name: str) -> Bag:
        """The bag stored under this name."""
        return Bag(
            table=self.arrays[f"{name}.table"],
            projection=self.arrays[f"{name}.table.scale"][:, None] * self.floats(f"{name}.projection"),
            bias=self.floats(f"{name}.bias"),
        )

    def vocabulary(self, name: str) -> Vocabulary:
        """The vocabulary stored under this name."""
        frequencies = self.floats(f"{name}.frequencies")
        return Vocabulary(frequencies=frequencies, bits=len(frequencies).bit_length() - 1)


def quantise(table: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Round each column of [rows, columns] to 255 steps; returns the table and the columns' scales."""
    scale = np.maximum(np.abs(table).max(axis=0), 1e-12) / _INT8
    return np.rint(table / scale).astype(np.int8), scale.astype(np.float32)


def read_weights(path: Path) -> Weights:
    """Read a file that `write_weights` wrote.

    Raises:
        FailedPrecondition: the file is missing, damaged, or of another format.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            description = orjson.loads((file.metadata() or {}).get("quartet", "{}"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError, orjson.JSONDecodeError) as error:
        raise _unusable(path, str(error)) from error
    if description.get("format") != FORMAT:
        raise _unusable(path, f"its format is {description.get('format')!r}, not {FORMAT!r}")
    return Weights(arrays=arrays, description=description)


def write_weights(path: Path, weights: Weights) -> None:
    """Write the file; the same weights give the same bytes."""
    metadata = {"quartet": orjson.dumps({**weights.description, "format": FORMAT}).decode()}
    path.write_bytes(save(dict(sorted(weights.arrays.items())), metadata=metadata))


def _unusable(path: Path, why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"The router's learned weights {path} cannot be used: {why}. Restore the shipped file, or "
        "train a new one with `python -m services.router.training.train`.",
        reason="LEARNED_WEIGHTS_UNUSABLE",
    )
