from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from services.cli.settings import StackSettings
    from services.cli.stack.embedded import Edge

# A terminal's Ctrl-C often comes with a SIGTERM from whoever started us: together they are one request.
SAME_REQUEST_S = 1.0


def up(
    tls: Annotated[
        bool | None,
        typer.Option("--tls", help="Serve https: QUARTET_TLS_CERT, else a pair made for development."),
    ] = None,
    with_parent: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="PID",
            help="The process that starts this one: stop when it ends, however it ends.",
        ),
    ] = None,
) -> None:
    """Run the whole suite on this machine until Ctrl-C: stores, services and Envoy."""
    from rich.console import Console

    from services.cli.settings import StackSettings
    from services.cli.stack.supervisor import StackError
    from services.kit.settings import SettingsError

    # Read by gRPC at its first use: it would write to the logs of the programs that are started here.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    # Paths and keys are there to be copied: no wrapping, no colouring of what looks like a number.
    console = Console(soft_wrap=True, highlight=False)
    try:
        if tls:
            # As the variable, so that what goes with it is checked alike.
            os.environ["QUARTET_TLS"] = "1"
        asyncio.run(_run(StackSettings.load(), console, with_parent=with_parent))
    except (StackError, SettingsError, OSError) as error:
        console.print("quartet could not run.", style="bold red")
        console.print(str(error), markup=False)
        raise typer.Exit(1) from None


async def _run(settings: StackSettings, console: Console, *, with_parent: int | None) -> None:
    from services.cli.stack.embedded import EmbeddedStack
    from services.cli.stack.process import follow_parent

    started = time.monotonic()

    def say(line: str) -> None:
        with _while_it_is_read(console):
            console.print(f"{time.monotonic() - started:6.1f} s  {line}", style="dim", markup=False)

    def announce(edge: Edge) -> None:
        say("ready")
        with _while_it_is_read(console):
            _print_next_steps(console, edge)

    stack = EmbeddedStack(settings, make_key=_make_key, say=say)
    running = asyncio.create_task(stack.run(announce))
    asked_at: float | None = None

    def end() -> None:
        nonlocal asked_at
        if asked_at is None:
            asked_at = time.monotonic()
            running.cancel()
            say("stopping; once more kills")
        elif time.monotonic() - asked_at > SAME_REQUEST_S:
            stack.kill()

    loop = asyncio.get_running_loop()
    # As `nohup` has it. Not so for SIGINT, which shells have all ignore that they start with `&`.
    is_deaf = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    for number in (signal.SIGINT, signal.SIGTERM, *(() if is_deaf else (signal.SIGHUP,))):
        loop.add_signal_handler(number, end)
    if with_parent is not None:
        follow_parent(signal.SIGTERM, with_parent)
    try:
        await running
    except asyncio.CancelledError:
        if asked_at is None:
            raise
        say("stopped")


@contextmanager
def _while_it_is_read(console: Console) -> Iterator[None]:
    """Says no more once the terminal or the pipe is gone: the suite does not end with what reads of it."""
    try:
        yield
    except (OSError, SystemExit):  # rich leaves by the latter
        console.quiet = True


async def _make_key(database_url: str, path: Path) -> str:
    from services.gateway.adapters.postgres.keys import ensure_dev_key

    return await ensure_dev_key(database_url, path)


def _print_next_steps(console: Console, edge: Edge) -> None:
    console.print()
    console.print(f"[bold]Quartet serves at {edge.url}[/]")
    console.print(f"API key  {edge.api_key}", markup=False)
    console.print(f"         also in {edge.key_file}", markup=False)
    console.print()
    console.print("Try, from another terminal:")
    if sys.prefix != sys.base_prefix:
        console.print(f"  export PATH={sys.prefix}/bin:$PATH", markup=False)
    if edge.authority:
        console.print(f"  export QUARTET_URL={edge.url} QUARTET_CA_CERT={edge.authority}", markup=False)
    console.print("  quartet ingest docs", markup=False)
    console.print(
        '  quartet ask "What happens to a step that was under way when the process died?"', markup=False
    )
    trust = f"--cacert {edge.authority} " if edge.authority else ""
    console.print(
        f'  curl {trust}{edge.url}/v1/models -H "Authorization: Bearer $(cat {edge.key_file})"', markup=False
    )
    console.print()
    console.print("Ctrl-C stops everything.", style="dim")
