from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from services.gateway.domain.limits import Limits
from services.gateway.domain.quotas import Absence, BudgetDefaults, QuotaRules
from services.kit.config_file import ConfigFile, Strict

FILE_NAME = "limits.yaml"
Number = Annotated[int, Field(ge=0, le=2**53 - 1, strict=True)]
Mode = Literal["open", "closed"]


class _Limits(Strict):
    requests_per_minute: Number | None = None
    tokens_per_minute: Number | None = None
    tokens_per_day: Number | None = None
    micro_usd_per_day: Number | None = None
    micro_usd_per_month: Number | None = None
    concurrent_calls: Number | None = None


class _KeyLimits(_Limits):
    input_tokens_per_request: Annotated[int, Field(ge=0, le=2**32 - 1, strict=True)]


class _Modes(Strict):
    requests_per_minute: Mode = "open"
    tokens_per_minute: Mode = "open"
    tokens_per_day: Mode = "open"
    micro_usd_per_day: Mode = "closed"
    micro_usd_per_month: Mode = "closed"
    concurrent_calls: Mode = "open"


class _Budget(Strict):
    max_tokens: Number | None = None
    max_cost_micro_usd: Number | None = None
    max_model_calls: Annotated[int, Field(ge=0, le=2**32 - 1, strict=True)] | None = None
    max_iterations: Annotated[int, Field(ge=0, le=2**32 - 1, strict=True)] | None = None


class _File(Strict):
    defaults: _KeyLimits
    tenant_defaults: _Limits = _Limits()
    budget: _Budget = _Budget()
    expected_output_tokens: Annotated[int, Field(ge=0, le=2**32 - 1, strict=True)] = 1000
    without_redis: _Modes = _Modes()


def read_limits(folder: Path) -> QuotaRules:
    """Reads `limits.yaml`; raises SettingsError with the line at fault."""
    file = ConfigFile(folder / FILE_NAME).read(_File)
    return QuotaRules(
        key_defaults=Limits(**file.defaults.model_dump()),
        tenant_defaults=Limits(**file.tenant_defaults.model_dump()),
        budget=BudgetDefaults(**file.budget.model_dump()),
        expected_output_tokens=file.expected_output_tokens,
        without_redis={name: Absence(mode) for name, mode in file.without_redis.model_dump().items()},
    )
