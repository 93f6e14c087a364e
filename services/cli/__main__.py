from __future__ import annotations

import typer

from services.cli.commands import envoy_config, migrate, serve, up

# Command modules import what they need inside the command, so that `--help` stays quick.
app = typer.Typer(
    name="quartet",
    help="A self-hosted AI backend: gateway, router, pipeline and orchestrator behind Envoy.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(up.up)
app.command()(serve.serve)
app.command()(migrate.migrate)
app.command()(envoy_config.envoy_config)


def main() -> None:
    """The `quartet` command."""
    app()


if __name__ == "__main__":
    main()
