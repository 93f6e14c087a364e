from typing import Annotated

import typer

from services.cli.commands.options import JsonOption, SinceOption

GROUPS = ("route", "model", "key", "day")


def savings(
    by: Annotated[
        str, typer.Option(metavar="NAME", help=f"What a row stands for: {', '.join(GROUPS)}.")
    ] = "route",
    since: SinceOption = "",
    json: JsonOption = False,
) -> None:
    """Say what routing saved your tenant, against sending all to the baseline model of routes.yaml.

    Counted are the calls that a route chose; failed and repeated ones are in their cost only. Vectors that
    were kept count with what they would have cost anew.
    """
    from quartet.gateway.v1.key_pb2 import GetUsageRequest
    from services.cli.listing import print_savings
    from services.cli.moments import set_since
    from services.cli.render import console
    from services.cli.session import show

    if by not in GROUPS:
        raise typer.BadParameter(f"{by!r} is none of {', '.join(GROUPS)}", param_hint="--by")
    request = GetUsageRequest(group_by=[by])
    set_since(request.start_time, since)
    show(
        lambda client: client.usage.get_usage(request, client.call()),
        lambda found: print_savings(console(), by, found.rows),
        json=json,
    )
