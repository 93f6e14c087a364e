from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.commands.options import JsonOption, LimitOption, PageOption, QuotasOption, read_quotas

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

app = typer.Typer(
    help="API keys of your tenant. Needs a key with the scope `keys` or `*`.", no_args_is_help=True
)

KeyArgument = Annotated[str, typer.Argument(metavar="ID", help="The key's id, such as qk_3f9a01b2c4d5.")]


def read_duration(option: str, text: str) -> "Duration | None":
    """An option's length of time; None when it is not given, and wrong usage when it is none."""
    from google.protobuf.duration_pb2 import Duration

    from services.cli.moments import read_span

    if not text:
        return None
    duration = Duration()
    try:
        duration.FromTimedelta(read_span(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
    return duration


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scopes: Annotated[
        list[str],
        typer.Option(
            "--scope",
            help="What it may do; give it once for each: `*`, `keys`, `tenants`, rpc:NAME, route:NAME, "
            "model:ID, collection:NAME, priority:NAME. Without any rpc it may call all, without a route, "
            "model or collection use all of those, and without a priority ask for each.",
        ),
    ],
    expires: Annotated[
        str, typer.Option(metavar="SPAN", help="When it ends by itself: 12h, 30d; never if not given.")
    ] = "",
    input_tokens: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**32 - 1,
            help="Most tokens of input in a request, 0 for none; limits.yaml's if not given.",
        ),
    ] = None,
    quotas: QuotasOption = None,
    tenant: Annotated[
        str, typer.Option(metavar="ID", help="The tenant that it is for; an operator may name another one.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Make a key. Its secret goes to stdout, this once."""
    from quartet.gateway.v1.key_pb2 import CreateKeyRequest, CreateKeyResponse, Limits
    from services.cli.render import console, printable
    from services.cli.session import show

    lifetime = read_duration("--expires", expires)
    limits = Limits(input_tokens_per_request=input_tokens, **read_quotas(quotas))
    request = CreateKeyRequest(name=name, scopes=scopes, lifetime=lifetime, limits=limits, tenant=tenant)

    def tell(response: CreateKeyResponse) -> None:
        key = response.key
        note = f"key {key.id} ({key.name}) is made; its secret is shown this once"
        console(stderr=True).print(printable(note), style="dim")
        console().print(response.secret)

    show(lambda client: client.keys.create_key(request, client.call()), tell, json=json)


@app.command("list")
def list_keys(limit: LimitOption = 100, page: PageOption = "", json: JsonOption = False) -> None:
    """List the keys, newest first, without their secrets."""
    from datetime import UTC, datetime

    from quartet.gateway.v1.key_pb2 import ListKeysRequest
    from services.cli.listing import print_keys
    from services.cli.render import console
    from services.cli.session import show

    request = ListKeysRequest(page_size=limit, page_token=page)
    show(
        lambda client: client.keys.list_keys(request, client.call()),
        lambda found: print_keys(console(), found.keys, datetime.now(UTC)),
        json=json,
    )


@app.command()
def rotate(
    key_id: KeyArgument,
    overlap: Annotated[
        str, typer.Option(metavar="SPAN", help="How long the old secret still works: 24h; 0 ends it now.")
    ] = "24h",
    json: JsonOption = False,
) -> None:
    """Give a key a new secret, which goes to stdout; a secret from before the last one ends now."""
    from quartet.gateway.v1.key_pb2 import RotateKeyRequest, RotateKeyResponse
    from services.cli.render import console
    from services.cli.session import show

    request = RotateKeyRequest(key_id=key_id, overlap=read_duration("--overlap", overlap))

    def tell(response: RotateKeyResponse) -> None:
        ended = overlap and not request.overlap.ToNanoseconds()
        old = "no longer works" if ended else "works until the overlap ends"
        note = f"key {response.key.id} has a new secret, shown this once; the old one {old}"
        console(stderr=True).print(note, style="dim")
        console().print(response.secret)

    show(lambda client: client.keys.rotate_key(request, client.call()), tell, json=json)


@app.command()
def revoke(key_id: KeyArgument, json: JsonOption = False) -> None:
    """End a key, everywhere within a second and for good."""
    from quartet.gateway.v1.key_pb2 import RevokeKeyRequest, RevokeKeyResponse
    from services.cli.listing import moment
    from services.cli.render import console
    from services.cli.session import show

    request = RevokeKeyRequest(key_id=key_id)

    def tell(response: RevokeKeyResponse) -> None:
        key = response.key
        console().print(f"key {key.id} is revoked since {moment(key.revoke_time)} UTC")

    show(lambda client: client.keys.revoke_key(request, client.call()), tell, json=json)
