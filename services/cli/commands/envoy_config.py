from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def envoy_config(
    target: Annotated[
        Path | None, typer.Option("--to", help="Folder; default: envoy/ in QUARTET_HOME.")
    ] = None,
    listener: Annotated[
        bool, typer.Option("--listener", help="Print the cluster's listener.yaml with the settings instead.")
    ] = False,
    validate: Annotated[
        bool, typer.Option("--validate", help="Have Envoy check it, then remove it.")
    ] = False,
) -> None:
    """Write the edge's configuration as `quartet up` would run it."""
    import tempfile

    from services.cli.settings import StackSettings
    from services.cli.stack.envoy import certify, render_envoy, render_listener, validate_envoy
    from services.cli.stack.supervisor import StackError
    from services.kit.settings import SettingsError

    try:
        settings = StackSettings.load()
        if validate:
            with tempfile.TemporaryDirectory() as scratch:
                # With a collector, so that the tracer and its cluster are checked too.
                traced = settings.model_copy(update={"otlp_endpoint": "http://127.0.0.1:4317"})
                wanted = {"home": Path(scratch), "tls": True, "cors_origins": ("https://app.example",)}
                secured, authority = certify(settings.model_copy(update=wanted))
                mutual = secured.model_copy(update={"tls_client_ca": secured.tls_client_ca or authority})
                for variant in (settings, traced, secured, mutual):
                    validate_envoy(render_envoy(variant, Path(scratch)))
            typer.echo("Envoy accepts the edge's configuration.")
        elif listener:
            typer.echo(render_listener(settings), nl=False)
        else:
            typer.echo(render_envoy(settings, target or settings.home / "envoy"))
    except (StackError, SettingsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
