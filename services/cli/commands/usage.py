from typing import Annotated

import typer

from services.cli.commands.options import JsonOption, SinceOption

GROUPS = ("key", "route", "model", "run", "day")


def usage(
    by: Annotated[
        str, typer.Option(metavar="NAMES", help=f"What a row stands for, any of: {', '.join(GROUPS)}.")
    ] = "model",
    since: SinceOption = "",
    json: JsonOption = False,
) -> None:
    """Say what your tenant used: calls, tokens and money, from the ledger."""
    from quartet.gateway.v1.key_pb2 import GetUsageRequest
    from services.cli.listing import print_usage
    from services.cli.moments import set_since
    from services.cli.render import console
    from services.cli.session import show

    names = [name.strip() for name in by.split(",") if name.strip()]
    if unknown := [name for name in names if name not in GROUPS]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(GROUPS)}", param_hint="--by")
    request = GetUsageRequest(group_by=dict.fromkeys(names))
    set_since(request.start_time, since)
    show(
        lambda client: client.usage.get_usage(request, client.call()),
        lambda found: print_usage(console(), tuple(request.group_by), found.rows),
        json=json,
    )
