from typing import Annotated

import typer

GROUPS = ("key", "route", "model", "run", "day")


def usage(
    by: Annotated[
        str, typer.Option(metavar="NAMES", help=f"What a row stands for, any of: {', '.join(GROUPS)}.")
    ] = "model",
    since: Annotated[
        str,
        typer.Option(metavar="TIME", help="From when: 2026-11-01, 2026-11-01T08:00, 12h, 7d. [this month]"),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what your tenant used: calls, tokens and money, from the ledger."""
    from quartet.gateway.v1.key_pb2 import GetUsageRequest
    from services.cli.client import Client
    from services.cli.listing import print_usage
    from services.cli.moments import set_since
    from services.cli.render import console, print_json
    from services.cli.session import run

    names = [name.strip() for name in by.split(",") if name.strip()]
    if unknown := [name for name in names if name not in GROUPS]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(GROUPS)}", param_hint="--by")
    request = GetUsageRequest(group_by=dict.fromkeys(names))
    set_since(request.start_time, since)

    async def act(client: Client) -> int:
        response = await client.usage.get_usage(request, client.call())
        if json:
            print_json(response)
        else:
            print_usage(console(), tuple(request.group_by), response.rows)
        return 0

    run(act)
