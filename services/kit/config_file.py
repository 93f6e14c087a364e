"""Configuration files: YAML read into pydantic models, with the line of every fault."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from services.kit.settings import SettingsError

MAX_BYTES = 4 * 1024 * 1024
MAX_FAULTS = 5

Location = Sequence[str | int]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML has it: ten times as fast."""


class Strict(BaseModel):
    """Base of what config files hold: unknown keys are faults, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Content = TypeVar("Content", bound=BaseModel)


class ConfigFile:
    """A YAML file with the place of every value in it.

    Raises:
        SettingsError: it cannot be read, or is not YAML.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if path.stat().st_size > MAX_BYTES:
                raise SettingsError(f"{path}: larger than {MAX_BYTES:,} bytes")
            text = path.read_text(encoding="utf-8")
            loader = _LOADER(text)
            self._root = loader.get_single_node()
            self._data = None if self._root is None else loader.construct_document(self._root)
        except OSError as error:
            message = f"{path}: cannot be read: {error.strerror}; QUARTET_CONFIG_DIR names the folder"
            raise SettingsError(message) from None
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise SettingsError(f"{path}:{line}: {error.problem}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: not a YAML file: {error}") from None

    def read(self, kind: type[Content]) -> Content:
        """The file's content; SettingsError names line and reason of each fault, up to five."""
        try:
            return kind.model_validate({} if self._data is None else self._data)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
            lines = [
                self.describe(fault["loc"], fault["msg"].removeprefix("Value error, "))
                for fault in faults[:MAX_FAULTS]
            ]
            if len(faults) > MAX_FAULTS:
                lines.append(f"{self.path}: and {len(faults) - MAX_FAULTS} more")
            raise SettingsError("\n".join(lines)) from None

    def fault(self, location: Location, reason: str) -> SettingsError:
        """The error for a fault that is found after reading."""
        return SettingsError(self.describe(location, reason))

    def describe(self, location: Location, reason: str) -> str:
        """`file:line: models.3.prices: reason`; the line is that of the nearest place that the file has."""
        line, path = self._find(location)
        where = ".".join(path)
        return f"{self.path}:{line}: {where}: {reason}" if where else f"{self.path}:{line}: {reason}"

    def _find(self, location: Location) -> tuple[int, list[str]]:
        """The line, and the location without the steps that are pydantic's own."""
        node, line = self._root, 1
        path: list[str] = []
        for number, step in enumerate(location):
            child: yaml.Node | None = None
            if isinstance(node, yaml.MappingNode):
                for key, value in node.value:
                    if key.value == str(step):
                        line, child = key.start_mark.line + 1, value
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                child = node.value[step]
                line = child.start_mark.line + 1
            if child is not None:
                node = child
                path.append(str(step))
            elif number == len(location) - 1 and not _is_tag(node, step):
                path.append(str(step))
        return line, path


def _is_tag(node: yaml.Node | None, step: str | int) -> bool:
    """Whether pydantic names by this step the member of a union, which the file has as a value."""
    return isinstance(node, yaml.MappingNode) and any(value.value == step for _, value in node.value)
