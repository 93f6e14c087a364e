from typing import Annotated

import typer


def rate(
    trace: Annotated[
        str, typer.Argument(metavar="TRACE", help="The answer's trace id, from x-quartet-trace-id.")
    ],
    score: Annotated[float, typer.Argument(min=0, max=1, help="How good it was: 0 is wrong, 1 is right.")],
    comment: Annotated[str, typer.Option(help="Why, for a person.")] = "",
) -> None:
    """Tell how good an answer was; `quartet router calibrate` learns from it."""
    from quartet.gateway.v1.gateway_pb2 import RecordOutcomeRequest
    from services.cli.client import Client
    from services.cli.session import run

    request = RecordOutcomeRequest(trace_id=trace, score=score, comment=comment)

    async def act(client: Client) -> int:
        await client.gateway.record_outcome(request, client.call())
        typer.echo("noted")
        return 0

    run(act)
