from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

import services
from services.gateway.domain.limits import Limits
from services.kit.settings import SettingsError

FILE_NAME = "limits.yaml"


class _Defaults(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    input_tokens_per_request: Annotated[int, Field(ge=0, le=2**32 - 1)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    defaults: _Defaults


def read_limits(folder: Path | None) -> Limits:
    """Reads the default limits of `limits.yaml`; raises SettingsError with the line at fault."""
    path = (folder or _shipped_folder()) / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        file = _File.model_validate(yaml.safe_load(text))
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}; set QUARTET_CONFIG_DIR to the folder that holds it"
        raise SettingsError(message) from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: {error}") from None
    except ValidationError as error:
        faults = [
            f"{path}:{_line(node, fault['loc'])}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
        raise SettingsError("; ".join(faults)) from None
    return Limits(input_tokens_per_request=file.defaults.input_tokens_per_request)


def _shipped_folder() -> Path:
    """The working tree's `config/`, else the copy that the installed package carries."""
    package = Path(services.__path__[0])
    tree = package.parent / "config"
    return tree if (tree / FILE_NAME).is_file() else package / "config"


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """The line of the deepest part of a location that the file has."""
    line = 1
    for name in location:
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == name), None)
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line
