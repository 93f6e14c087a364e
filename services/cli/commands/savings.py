from typing import Annotated

import typer

GROUPS = ("route", "model", "key", "day")


def savings(
    by: Annotated[
        str, typer.Option(metavar="NAME", help=f"What a row stands for: {', '.join(GROUPS)}.")
    ] = "route",
    since: Annotated[
        str,
        typer.Option(metavar="TIME", help="From when: 2026-11-01, 2026-11-01T08:00, 12h, 7d. [this month]"),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what routing saved your tenant, against sending all to the baseline model of routes.yaml.

    Counted are the calls that a route chose; failed and repeated ones are in their cost only. Vectors that
    were kept count with what they would have cost anew.
    """
    from quartet.gateway.v1.key_pb2 import GetUsageRequest
    from services.cli.client import Client
    from services.cli.listing import print_savings
    from services.cli.moments import set_since
    from services.cli.render import console, print_json
    from services.cli.session import run

    if by not in GROUPS:
        raise typer.BadParameter(f"{by!r} is none of {', '.join(GROUPS)}", param_hint="--by")
    request = GetUsageRequest(group_by=[by])
    set_since(request.start_time, since)

    async def act(client: Client) -> int:
        response = await client.usage.get_usage(request, client.call())
        if json:
            print_json(response)
        else:
            print_savings(console(), by, response.rows)
        return 0

    run(act)
