"""The `x-ratelimit-*` headers, as OpenAI's clients know them."""

from collections.abc import Iterable

from services.kit.accounts.account import Kind, Standing
from services.kit.call import Call

_NAMES = {Kind.REQUESTS: "requests", Kind.TOKENS: "tokens"}


def tell_limits(call: Call, standings: Iterable[Standing]) -> None:
    """Sets limit, rest and reset of requests and tokens a minute, of key or tenant: the tighter."""
    tightest: dict[str, Standing] = {}
    for standing in standings:
        name = _NAMES.get(standing.limit.kind)
        if name is None or not standing.limit.name.endswith("_per_minute"):
            continue
        known = tightest.get(name)
        if known is None or standing.remaining < known.remaining:
            tightest[name] = standing
    for name, standing in tightest.items():
        call.response_headers[f"x-ratelimit-limit-{name}"] = str(standing.limit.most)
        call.response_headers[f"x-ratelimit-remaining-{name}"] = str(standing.remaining)
        call.response_headers[f"x-ratelimit-reset-{name}"] = _duration(standing.reset_s)


def _duration(seconds: float) -> str:
    """Such as `6m0s`, `1s` or `120ms`."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(-(-milliseconds // 1000), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
