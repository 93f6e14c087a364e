"""How long answers will be, learnt from those that there were."""

_WEIGHT = 1 / 32
"""Of the newest answer: some thirty answers are remembered."""


class OutputLengths:
    """A running mean of the output tokens of each route's models; bounded by the two tables' sizes."""

    def __init__(self) -> None:
        self._means: dict[tuple[str, str], float] = {}

    def note(self, route: str, model: str, output_tokens: int) -> None:
        """Counts an answer that ended well."""
        known = self._means.get((route, model))
        if known is None:
            self._means[route, model] = float(output_tokens)
        else:
            self._means[route, model] = known + _WEIGHT * (output_tokens - known)

    def predict(self, route: str, model: str, *, otherwise: int) -> int:
        """Tokens to expect of the model on the route; `otherwise` while there was no answer yet."""
        known = self._means.get((route, model))
        return otherwise if known is None else round(known)
