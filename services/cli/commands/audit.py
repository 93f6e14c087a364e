from typing import Annotated

import typer


def audit(
    action: Annotated[
        str, typer.Option(metavar="NAME", help="Only this: create_key, revoke_key, delete_tenant …")
    ] = "",
    subject: Annotated[str, typer.Option(metavar="ID", help="Only changes of this key or tenant.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    page: Annotated[str, typer.Option(help="Go on where the last list ended, by its token.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say who changed keys and tenants, newest first: of your tenant, or of all for operators."""
    from quartet.gateway.v1.key_pb2 import ListAuditEntriesRequest
    from services.cli.client import Client
    from services.cli.listing import print_audit
    from services.cli.render import console, print_json
    from services.cli.session import run

    request = ListAuditEntriesRequest(page_size=limit, page_token=page, action=action, subject=subject)

    async def act(client: Client) -> int:
        response = await client.keys.list_audit_entries(request, client.call())
        if json:
            print_json(response)
            return 0
        print_audit(console(), response.entries)
        if response.next_page_token:
            console(stderr=True).print(f"there is more: --page {response.next_page_token}", style="dim")
        return 0

    run(act)
