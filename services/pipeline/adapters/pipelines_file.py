from __future__ import annotations

from typing import TYPE_CHECKING

import yaml
from pydantic import ValidationError

from services.kit.settings import SettingsError
from services.pipeline.domain.configuration import PipelinesFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_BYTES = 1024 * 1024
MAX_FAULTS = 5


class PipelinesSource:
    """`pipelines.yaml` with the place of every value in it, so that a fault is told with its line.

    Raises:
        SettingsError: it cannot be read, or is not YAML.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(MAX_BYTES + 1)
            if len(text) > MAX_BYTES:
                raise SettingsError(f"{path}: larger than {MAX_BYTES:,} characters")
            self._root = yaml.compose(text, yaml.SafeLoader)
            self._data = yaml.safe_load(text)
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise SettingsError(f"{path}:{line}: {error.problem}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: not a YAML file: {error}") from None

    def read(self) -> PipelinesFile:
        """The file's content; SettingsError names line and reason of each fault, up to five."""
        try:
            return PipelinesFile.model_validate({} if self._data is None else self._data)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
            shown = [
                str(self.fault(fault["loc"], fault["msg"].removeprefix("Value error, ")))
                for fault in faults[:MAX_FAULTS]
            ]
            if len(faults) > MAX_FAULTS:
                shown.append(f"{self._path}: and {len(faults) - MAX_FAULTS} more")
            raise SettingsError("\n".join(shown)) from None

    def fault(self, location: Sequence[str | int], reason: str) -> SettingsError:
        """The error `file:line: pipelines.rag_answer.stages.2: reason`."""
        line, path = self._find(location)
        where = ".".join(path)
        return SettingsError(
            f"{self._path}:{line}: {where}: {reason}" if where else f"{self._path}:{line}: {reason}"
        )

    def _find(self, location: Sequence[str | int]) -> tuple[int, list[str]]:
        """The line of the nearest place that the file has; steps that are pydantic's own are passed over."""
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
    """Whether pydantic names by this step the kind of a stage, which the file has as a value."""
    return isinstance(node, yaml.MappingNode) and any(value.value == step for _, value in node.value)
