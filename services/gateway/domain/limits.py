from dataclasses import dataclass, fields, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one key, or one tenant with all its keys, may use.

    None means the default of `limits.yaml`, and where that says nothing there is no such limit. Zero means
    none at all, never unlimited.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    micro_usd_per_day: int | None = None
    micro_usd_per_month: int | None = None
    concurrent_calls: int | None = None
    input_tokens_per_request: int | None = None

    def over(self, defaults: "Limits") -> "Limits":
        """These limits, with the defaults where there are none."""
        missing = {
            one.name: getattr(defaults, one.name) for one in fields(self) if getattr(self, one.name) is None
        }
        return replace(self, **missing)


LIMITS = tuple(field.name for field in fields(Limits))
"""Each is a column of that name."""
SHARED_LIMITS = tuple(name for name in LIMITS if name != "input_tokens_per_request")
"""Those that a tenant has, too."""
NO_LIMITS = Limits()
"""Says nothing of its own."""
