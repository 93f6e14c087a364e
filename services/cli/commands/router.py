import sys
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.commands.options import JsonOption

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.router.learned.learned import Learned
    from services.router.learned.offline import Embed

app = typer.Typer(
    help="The router's judgement: scores and intents of many prompts offline, and how its policies do.",
    no_args_is_help=True,
)


@app.command()
def score() -> None:
    """Score how much each prompt on stdin needs the strong model: CSV `id,score`, higher needs it more."""
    from services.router.learned.offline import write_scores

    _run(lambda learned: write_scores(sys.stdin.buffer, sys.stdout.buffer, learned))


@app.command()
def intent(
    labels: Annotated[str, typer.Option(help="The label set: lesson, clinc150 or banking77.")] = "lesson",
    words_only: Annotated[
        bool, typer.Option("--words-only", help="Leave out the embedding model: quicker, less sure.")
    ] = False,
) -> None:
    """Name what each prompt on stdin wants: CSV `id,intent`."""
    from services.router.learned.offline import write_intents

    embed = None if words_only else _embedder()
    _run(lambda learned: write_intents(sys.stdin.buffer, sys.stdout.buffer, learned, labels, embed))


@app.command()
def compare(
    since: Annotated[
        str, typer.Option(metavar="TIME", help="From when: 2026-11-01, 12h, 7d. [the last 30 days]")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Show what shadow policies would have chosen for your tenant, and what it would have cost."""
    from quartet.gateway.v1.gateway_pb2 import ComparePoliciesRequest
    from services.cli.listing import print_comparison
    from services.cli.moments import set_since
    from services.cli.render import console
    from services.cli.session import show

    request = ComparePoliciesRequest()
    set_since(request.start_time, since)
    show(
        lambda client: client.gateway.compare_policies(request, client.call()),
        lambda found: print_comparison(console(), found.routes),
        json=json,
    )


@app.command()
def calibrate(
    days: Annotated[int, typer.Option(help="How many days of decisions and outcomes to heed.", min=1)] = 30,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the change, keep things as they are.")
    ] = False,
) -> None:
    """Correct what the policies believe by recorded outcomes, in the database that DATABASE_URL names.

    Routers take a new calibration over within half a minute.
    """
    import asyncio

    from services.cli.calibration import run_calibration

    raise typer.Exit(asyncio.run(run_calibration(days=days, dry_run=dry_run)))


def _embedder() -> "Embed | None":
    """The local embedding model where set-up has put it."""
    from services.kit.artifacts import minilm_directory

    directory = minilm_directory()
    if not (directory / "model.safetensors").exists():
        typer.echo(f"note: no embedding model in {directory}; judging by the words alone", err=True)
        return None
    from services.router.adapters.minilm.model import MiniLM

    model = MiniLM(directory, threads=2)
    return lambda prompts: model.embed(prompts)[0]


def _run(write: "Callable[[Learned], int]") -> None:
    from services.kit.errors import QuartetError
    from services.router.learned.learned import Learned

    try:
        write(Learned.load())
    except QuartetError as error:
        typer.echo(f"error: {error.message}", err=True)
        raise typer.Exit(1) from None
    except BrokenPipeError:
        # The reader has seen enough; nothing more can be said to it.
        sys.stderr.close()
        raise typer.Exit(1) from None
