from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import Annotated

import typer


def certs(
    target: Annotated[
        Path | None, typer.Option("--to", help="Folder; default: tls/ in QUARTET_HOME.")
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(help="A name or address of the edge beside this machine's."),
    ] = None,
) -> None:
    """Make certificates for development: an authority, a pair for the edge, a pair for a client."""
    from services.cli.settings import StackSettings
    from services.cli.stack.certificates import ensure_certificates
    from services.kit.settings import SettingsError

    for name in host or ():
        if not name.isascii():
            raise typer.BadParameter(f"write {name} as DNS has it: xn--…", param_hint="--host")
    try:
        folder = (target or StackSettings.load().home / "tls").absolute()
        made = ensure_certificates(folder, host or ())
    except (SettingsError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    (server, server_key), (client, client_key) = made.server, made.client
    typer.echo(f"""\
In {folder}, for development alone:

  serve with   quartet up --tls
  or by name   QUARTET_TLS=1 QUARTET_TLS_CERT={server} QUARTET_TLS_KEY={server_key}
  ask every client for a certificate
               QUARTET_TLS_CLIENT_CA={made.authority}

  the quartet command
               export QUARTET_URL=https://127.0.0.1:8080 QUARTET_CA_CERT={made.authority}
               export QUARTET_CLIENT_CERT={client} QUARTET_CLIENT_KEY={client_key}
  curl         curl --cacert {made.authority} --cert {client} --key {client_key} https://127.0.0.1:8080/healthz""")
