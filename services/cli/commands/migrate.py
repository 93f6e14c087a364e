from __future__ import annotations

import asyncio

import typer


def migrate() -> None:
    """Bring the schemas of all services up to date in the database that DATABASE_URL names."""
    import psycopg

    from services.cli.settings import StackSettings
    from services.cli.stack.schemas import migrate_all
    from services.kit.errors import QuartetError
    from services.kit.settings import SettingsError

    try:
        settings = StackSettings.load()
        if not settings.database_url:
            typer.echo("error: DATABASE_URL is not set; `quartet up` migrates its own database.", err=True)
            raise typer.Exit(2)
        applied = asyncio.run(migrate_all(settings.database_url))
    except (psycopg.Error, QuartetError, SettingsError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    for step in applied:
        typer.echo(f"applied {step}")
    typer.echo(f"{len(applied)} migrations applied." if applied else "All schemas are up to date.")
