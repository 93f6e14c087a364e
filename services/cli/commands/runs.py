from typing import Annotated

import typer

from services.cli.commands.options import JsonOption, LimitOption, PageOption

app = typer.Typer(help="Runs of the orchestrator.", no_args_is_help=True)

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]


@app.command("list")
def list_runs(limit: LimitOption = 20, page: PageOption = "", json: JsonOption = False) -> None:
    """List the runs, newest first."""
    from quartet.gateway.v1.run_pb2 import ListRunsRequest
    from services.cli.listing import print_runs
    from services.cli.render import console
    from services.cli.session import show

    request = ListRunsRequest(page_size=limit, page_token=page)
    show(
        lambda client: client.runs.list_runs(request, client.call()),
        lambda found: print_runs(console(), found.runs),
        json=json,
    )


@app.command("show")
def show_run(run_id: RunArgument, json: JsonOption = False) -> None:
    """Show a run: where it is, its answer with citations, what it used."""
    from quartet.gateway.v1.run_pb2 import GetRunRequest
    from services.cli.client import Client
    from services.cli.presentation import print_run
    from services.cli.render import console, print_json
    from services.cli.session import run

    async def act(client: Client) -> int:
        response = await client.runs.get_run(GetRunRequest(run_id=run_id), client.call())
        if json:
            print_json(response.run)
        else:
            print_run(response.run, console())
        return 0

    run(act)


@app.command()
def watch(
    run_id: RunArgument,
    first: Annotated[int, typer.Option("--from", min=1, help="The number of the first event.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")] = False,
) -> None:
    """Follow a run's events until it ends; it fails when the run ended without an answer."""
    from contextlib import aclosing

    from quartet.common.v1.run_pb2 import RUN_STATE_SUCCEEDED, Run
    from quartet.gateway.v1.run_pb2 import WatchRunRequest
    from services.cli.client import STREAM_TIMEOUT_S, Client
    from services.cli.presentation import print_run
    from services.cli.progress import describe_event
    from services.cli.render import console, print_json, printable
    from services.cli.session import run

    async def act(client: Client) -> int:
        out = console()
        ended = Run()
        request = WatchRunRequest(run_id=run_id, from_event_number=first)
        async with aclosing(client.runs.watch_run(request, client.call(STREAM_TIMEOUT_S))) as items:
            async for item in items:
                ended = item.event.ended.run
                if json:
                    print_json(item.event)
                elif not item.event.HasField("ended"):
                    for line in describe_event(item.event):
                        out.print(printable(line))
        if not json:
            print_run(ended, out)
        return 0 if ended.state == RUN_STATE_SUCCEEDED else 1

    run(act)


@app.command()
def cancel(run_id: RunArgument, json: JsonOption = False) -> None:
    """Stop a run, the step under way included."""
    from quartet.gateway.v1.run_pb2 import CancelRunRequest
    from services.cli.client import Client
    from services.cli.progress import describe_run
    from services.cli.render import console, print_json, printable
    from services.cli.session import run

    async def act(client: Client) -> int:
        response = await client.runs.cancel_run(CancelRunRequest(run_id=run_id), client.call())
        if json:
            print_json(response.run)
        else:
            console().print(printable(describe_run(response.run)))
        return 0

    run(act)
