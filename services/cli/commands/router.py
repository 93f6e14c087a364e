import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.router.learned.learned import Learned
    from services.router.learned.offline import Embed

app = typer.Typer(
    help="The router's learned judgement of prompts, offline: JSON lines {id, prompt} in, CSV out.",
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
