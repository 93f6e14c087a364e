from pathlib import Path
from typing import Annotated

from pydantic import Field

from services.gateway.domain.limits import Limits
from services.kit.config_file import ConfigFile, Strict

FILE_NAME = "limits.yaml"


class _Defaults(Strict):
    input_tokens_per_request: Annotated[int, Field(ge=0, le=2**32 - 1, strict=True)]


class _File(Strict):
    defaults: _Defaults


def read_limits(folder: Path) -> Limits:
    """Reads the default limits of `limits.yaml`; raises SettingsError with the line at fault."""
    file = ConfigFile(folder / FILE_NAME).read(_File)
    return Limits(input_tokens_per_request=file.defaults.input_tokens_per_request)
