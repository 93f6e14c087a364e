from typing import Annotated

import typer

from services.cli.commands.keys import read_quotas

app = typer.Typer(
    help="Tenants of the suite. Needs an operator's key, with the scope `tenants` or `*`.",
    no_args_is_help=True,
)

TenantArgument = Annotated[str, typer.Argument(metavar="ID", help="The tenant's id, such as acme.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
QuotasOption = Annotated[
    list[str] | None,
    typer.Option(
        "--quota",
        metavar="NAME=NUMBER",
        help="A limit of all its keys together, once for each: requests_per_minute, tokens_per_minute, "
        "tokens_per_day, micro_usd_per_day, micro_usd_per_month, concurrent_calls; 0 for none at all.",
    ),
]


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
    from services.cli.client import Client
    from services.cli.render import console, print_json, printable
    from services.cli.session import run

    request = CreateTenantRequest(id=tenant_id, name=name, limits=Limits(**read_quotas(quotas or [])))

    async def act(client: Client) -> int:
        response = await client.tenants.create_tenant(request, client.call())
        if json:
            print_json(response)
        else:
            console().print(printable(f"tenant {response.tenant.id} is made"))
        return 0

    run(act)


@app.command("list")
def list_tenants(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    page: Annotated[str, typer.Option(help="Go on where the last list ended, by its token.")] = "",
    json: JsonOption = False,
) -> None:
    """List the tenants by id, with their limits."""
    from quartet.gateway.v1.tenant_pb2 import ListTenantsRequest
    from services.cli.client import Client
    from services.cli.listing import print_tenants
    from services.cli.render import console, print_json
    from services.cli.session import run

    async def act(client: Client) -> int:
        request = ListTenantsRequest(page_size=limit, page_token=page)
        response = await client.tenants.list_tenants(request, client.call())
        if json:
            print_json(response)
            return 0
        print_tenants(console(), response.tenants)
        if response.next_page_token:
            console(stderr=True).print(f"there is more: --page {response.next_page_token}", style="dim")
        return 0

    run(act)


@app.command()
def limits(tenant_id: TenantArgument, quotas: QuotasOption = None, json: JsonOption = False) -> None:
    """Replace a tenant's limits: those that are left out fall to limits.yaml's."""
    from quartet.gateway.v1.key_pb2 import Limits
    from quartet.gateway.v1.tenant_pb2 import SetTenantLimitsRequest
    from services.cli.client import Client
    from services.cli.listing import print_tenants
    from services.cli.render import console, print_json
    from services.cli.session import run

    request = SetTenantLimitsRequest(tenant_id=tenant_id, limits=Limits(**read_quotas(quotas or [])))

    async def act(client: Client) -> int:
        response = await client.tenants.set_tenant_limits(request, client.call())
        if json:
            print_json(response)
        else:
            print_tenants(console(), [response.tenant])
        return 0

    run(act)


@app.command()
def delete(
    tenant_id: TenantArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Delete a tenant with its keys, documents, runs and ledger, for good; repeat it if it fails."""
    from quartet.gateway.v1.tenant_pb2 import DeleteTenantRequest
    from services.cli.client import STREAM_TIMEOUT_S, Client
    from services.cli.render import console, print_json, printable
    from services.cli.session import run

    if not yes:
        typer.confirm(f"Delete the tenant {tenant_id!r} with all its data?", abort=True, err=True)

    async def act(client: Client) -> int:
        request = DeleteTenantRequest(tenant_id=tenant_id)
        response = await client.tenants.delete_tenant(request, client.call(STREAM_TIMEOUT_S))
        if json:
            print_json(response)
        else:
            count = response.deleted_entries
            console().print(printable(f"tenant {tenant_id} is gone, with {count:,} rows and entries"))
        return 0

    run(act)
