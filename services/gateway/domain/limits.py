from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one key may use; None means the default of `limits.yaml`, zero means none at all."""

    input_tokens_per_request: int | None = None

    def over(self, defaults: "Limits") -> "Limits":
        """These limits, with the defaults where there are none."""
        own = self.input_tokens_per_request
        return Limits(
            input_tokens_per_request=defaults.input_tokens_per_request if own is None else own,
        )


NO_LIMITS = Limits()
"""Says nothing of its own."""
