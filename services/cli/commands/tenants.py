from typing import Annotated

import typer

from services.cli.commands.options import JsonOption, LimitOption, PageOption, QuotasOption, read_quotas

app = typer.Typer(
    help="Tenants of the suite, and what all keys of one may use together. Needs an operator's key, with the "
    "scope `tenants` or `*`.",
    no_args_is_help=True,
)

TenantArgument = Annotated[str, typer.Argument(metavar="ID", help="The tenant's id, such as acme.")]


@app.command()
def create(
    tenant_id: TenantArgument,
    name: Annotated[str, typer.Option(help="Its name, for people; its id if not given.")] = "",
    quotas: QuotasOption = None,
    json: JsonOption = False,
) -> None:
    """Make a tenant; `quartet keys create --tenant ID` then makes its first key."""
    from quartet.gateway.v1.key_pb2 import Limits
    from quartet.gateway.v1.tenant_pb2 import CreateTenantRequest
    from services.cli.render import console, printable
    from services.cli.session import show

    request = CreateTenantRequest(id=tenant_id, name=name, limits=Limits(**read_quotas(quotas)))
    show(
        lambda client: client.tenants.create_tenant(request, client.call()),
        lambda made: console().print(printable(f"tenant {made.tenant.id} is made")),
        json=json,
    )


@app.command("list")
def list_tenants(limit: LimitOption = 100, page: PageOption = "", json: JsonOption = False) -> None:
    """List the tenants by id, with their limits."""
    from quartet.gateway.v1.tenant_pb2 import ListTenantsRequest
    from services.cli.listing import print_tenants
    from services.cli.render import console
    from services.cli.session import show

    request = ListTenantsRequest(page_size=limit, page_token=page)
    show(
        lambda client: client.tenants.list_tenants(request, client.call()),
        lambda found: print_tenants(console(), found.tenants),
        json=json,
    )


@app.command()
def limits(tenant_id: TenantArgument, quotas: QuotasOption = None, json: JsonOption = False) -> None:
    """Replace a tenant's limits: those that are left out fall to limits.yaml's."""
    from quartet.gateway.v1.key_pb2 import Limits
    from quartet.gateway.v1.tenant_pb2 import SetTenantLimitsRequest
    from services.cli.listing import print_tenants
    from services.cli.render import console
    from services.cli.session import show

    request = SetTenantLimitsRequest(tenant_id=tenant_id, limits=Limits(**read_quotas(quotas)))
    show(
        lambda client: client.tenants.set_tenant_limits(request, client.call()),
        lambda now: print_tenants(console(), [now.tenant]),
        json=json,
    )


@app.command()
def delete(
    tenant_id: TenantArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Delete a tenant with its keys, documents, runs and ledger, for good; repeat it if it fails."""
    from quartet.gateway.v1.tenant_pb2 import DeleteTenantRequest, DeleteTenantResponse
    from services.cli.client import STREAM_TIMEOUT_S
    from services.cli.render import console, printable
    from services.cli.session import show

    if not yes:
        typer.confirm(f"Delete the tenant {tenant_id!r} with all its data?", abort=True, err=True)
    request = DeleteTenantRequest(tenant_id=tenant_id)

    def tell(gone: DeleteTenantResponse) -> None:
        count = gone.deleted_entries
        console().print(printable(f"tenant {tenant_id} is gone, with {count:,} rows and entries"))

    show(lambda client: client.tenants.delete_tenant(request, client.call(STREAM_TIMEOUT_S)), tell, json=json)
