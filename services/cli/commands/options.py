"""Options that several commands take."""

from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
LimitOption = Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")]
PageOption = Annotated[str, typer.Option(help="Go on where the last list ended, by its token.")]
SinceOption = Annotated[
    str, typer.Option(metavar="TIME", help="From when: 2026-11-01, 2026-11-01T08:00, 12h, 7d. [this month]")
]

QUOTAS = (
    "requests_per_minute",
    "tokens_per_minute",
    "tokens_per_day",
    "micro_usd_per_day",
    "micro_usd_per_month",
    "concurrent_calls",
)
"""The limits that a key and a tenant may both have; written out, since help is shown without the contract."""
QuotasOption = Annotated[
    list[str] | None,
    typer.Option(
        "--quota",
        metavar="NAME=NUMBER",
        help=f"A limit, once for each: {', '.join(QUOTAS)}. 0 allows nothing.",
    ),
]


def read_quotas(texts: list[str] | None) -> dict[str, int]:
    """Limits from `NAME=NUMBER`; anything else is wrong usage."""
    found: dict[str, int] = {}
    for text in texts or ():
        name, _, number = text.partition("=")
        if name not in QUOTAS or not number.isascii() or not number.isdigit() or len(number) > 18:
            message = f"{text!r} is no quota: write NAME=NUMBER with a name among {', '.join(QUOTAS)}"
            raise typer.BadParameter(message, param_hint="--quota")
        found[name] = int(number)
    return found
