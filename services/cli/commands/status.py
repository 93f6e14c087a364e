from typing import TYPE_CHECKING

from services.cli.commands.options import JsonOption

if TYPE_CHECKING:
    from services.cli.client import Client
    from services.cli.health import Status


def status(
    json: JsonOption = False,
) -> None:
    """Say whether the suite is up, which models can answer, and what the collections hold."""
    from services.cli.session import run

    run(lambda client: _status(client, json=json))


async def _status(client: "Client", *, json: bool) -> int:
    from services.cli.health import examine
    from services.cli.render import print_json

    found = await examine(client)
    if json:
        print_json(found.as_json())
    else:
        _print_status(found)
    return 0 if found.up else 1


def _print_status(found: "Status") -> None:
    from services.cli.listing import print_collections, print_readiness
    from services.cli.render import console, print_table, printable

    out = console()
    out.print(f"quartet {found.version} at {found.url}")
    out.print()
    print_table(out, ("part", "state", "took"), (part.row() for part in found.parts))
    models = [model for model in found.models if model.kind == "model"]
    if models:
        out.print()
        print_readiness(out, models)
    if found.collections:
        out.print()
        print_collections(out, found.collections)
    elif found.up:
        out.print("\nno collections yet: quartet ingest PATH…")
    if not found.up:
        console(stderr=True).print(printable(f"error: the suite is not up. {found.advice}"), style="red")
