from __future__ import annotations

from typing import Annotated

import typer


def serve(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="gateway, router, pipeline or orchestrator")
    ],
) -> None:
    """Run services in one process until SIGTERM; those named together call each other without a network."""
    from services.cli.settings import check_names
    from services.cli.stack.serving import serve_services
    from services.kit.settings import SettingsError

    try:
        check_names(tuple(names))
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    try:
        status = serve_services(tuple(names))
    except SettingsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(status)
