from __future__ import annotations

import typer

from services.cli.commands import (
    ask,
    audit,
    certs,
    chat,
    documents,
    envoy_config,
    explain,
    ingest,
    jobs,
    keys,
    migrate,
    models,
    rate,
    router,
    runs,
    savings,
    serve,
    status,
    tenants,
    up,
    usage,
)

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
app.command()(certs.certs)
app.command()(ingest.ingest)
app.command()(ask.ask)
app.command()(chat.chat)
app.command()(explain.explain)
app.command()(status.status)
app.command()(models.models)
app.command()(usage.usage)
app.command()(savings.savings)
app.command()(audit.audit)
app.command()(rate.rate)
app.command()(documents.collections)
app.command()(documents.search)
app.add_typer(documents.app, name="documents")
app.add_typer(jobs.app, name="jobs")
app.add_typer(keys.app, name="keys")
app.add_typer(router.app, name="router")
app.add_typer(runs.app, name="runs")
app.add_typer(tenants.app, name="tenants")


def main() -> None:
    """The `quartet` command."""
    app()


if __name__ == "__main__":
    main()
