from typing import Annotated

import typer

from services.cli.commands.options import JsonOption, LimitOption, PageOption


def audit(
    action: Annotated[
        str, typer.Option(metavar="NAME", help="Only this: create_key, revoke_key, delete_tenant …")
    ] = "",
    subject: Annotated[str, typer.Option(metavar="ID", help="Only changes of this key or tenant.")] = "",
    limit: LimitOption = 100,
    page: PageOption = "",
    json: JsonOption = False,
) -> None:
    """Say who changed keys and tenants, newest first: of your tenant, or of all for operators."""
    from quartet.gateway.v1.key_pb2 import ListAuditEntriesRequest
    from services.cli.listing import print_audit
    from services.cli.render import console
    from services.cli.session import show

    request = ListAuditEntriesRequest(page_size=limit, page_token=page, action=action, subject=subject)
    show(
        lambda client: client.keys.list_audit_entries(request, client.call()),
        lambda found: print_audit(console(), found.entries),
        json=json,
    )
