"""Reads a YAML file into a pydantic model, and says of a fault in which line it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from services.kit.settings import SettingsError

MAX_FAULTS = 5
MAX_BYTES = 4 * 1024 * 1024

Location = Sequence[str | int]


class ConfigError(SettingsError):
    """A configuration file is wrong; the message has a `file:line: reason` for each fault."""


class Strict(BaseModel):
    """Base of what config files hold: unknown keys are faults, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Content = TypeVar("Content", bound=BaseModel)


class Source:
    """A YAML file with the place of every value in it.

    Raises ConfigError when it cannot be read or parsed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes")
            text = path.read_text(encoding="utf-8")
            self._root = yaml.compose(text, yaml.SafeLoader)
            self._data = yaml.safe_load(text)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(_describe_syntax(path, error)) from None

    def read(self, kind: type[Content]) -> Content:
        """The file's content; raises ConfigError with the line and the reason of each fault."""
        try:
            return kind.model_validate({} if self._data is None else self._data)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
            lines = [self.describe(fault["loc"], fault["msg"]) for fault in faults[:MAX_FAULTS]]
            if len(faults) > MAX_FAULTS:
                lines.append(f"{self.path}: and {len(faults) - MAX_FAULTS} more")
            raise ConfigError("\n".join(lines)) from None

    def fault(self, location: Location, reason: str) -> ConfigError:
        """The error for a fault that is found after reading."""
        return ConfigError(self.describe(location, reason))

    def describe(self, location: Location, reason: str) -> str:
        """`file:line: models.3.prices: reason`; the line is that of the nearest place that the file has."""
        where = ".".join(str(step) for step in location)
        return (
            f"{self.path}:{self._line_of(location)}: {where}: {reason}"
            if where
            else f"{self.path}:1: {reason}"
        )

    def _line_of(self, location: Location) -> int:
        node, line = self._root, 1
        for step in location:
            child = None
            if isinstance(node, yaml.MappingNode):
                for key, value in node.value:
                    if key.value == str(step):
                        line, child = key.start_mark.line + 1, value
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                child = node.value[step]
                line = child.start_mark.line + 1
            if child is None:
                break
            node = child
        return line


def _describe_syntax(path: Path, error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{path}:{error.problem_mark.line + 1}: {error.problem}"
    return f"{path}: {error}"
