from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

app = typer.Typer(
    help="API keys of your tenant. Needs a key with the scope `keys` or `*`.", no_args_is_help=True
)

KeyArgument = Annotated[str, typer.Argument(metavar="ID", help="The key's id, such as qk_3f9a01b2c4d5.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


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


QUOTAS = (
    "requests_per_minute",
    "tokens_per_minute",
    "tokens_per_day",
    "micro_usd_per_day",
    "micro_usd_per_month",
    "concurrent_calls",
)


def read_quotas(texts: list[str]) -> dict[str, int]:
    """Limits from `NAME=NUMBER`; anything else is wrong usage."""
    found: dict[str, int] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name not in QUOTAS or not number.isascii() or not number.isdigit() or len(number) > 18:
            message = f"{text!r} is no quota: write NAME=NUMBER with a name among {', '.join(QUOTAS)}"
            raise typer.BadParameter(message, param_hint="--quota")
        found[name] = int(number)
    return found


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scopes: Annotated[
        list[str],
        typer.Option(
            "--scope",
            help="What it may do; give it once for each: `*`, `keys`, `tenants`, rpc:NAME, route:NAME, "
            "model:ID, collection:NAME. Without any rpc it may call all, and without a route, model or "
            "collection use all of those.",
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
    quotas: Annotated[
        list[str] | None,
        typer.Option(
            "--quota",
            metavar="NAME=NUMBER",
            help="A limit of its own, once for each: requests_per_minute, tokens_per_minute, tokens_per_day, "
            "micro_usd_per_day, micro_usd_per_month, concurrent_calls. 0 allows nothing.",
        ),
    ] = None,
    tenant: Annotated[
        str, typer.Option(metavar="ID", help="The tenant that it is for; an operator may name another one.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Make a key. Its secret goes to stdout, this once."""
    from quartet.gateway.v1.key_pb2 import CreateKeyRequest, Limits
    from services.cli.client import Client
    from services.cli.render import console, print_json, printable
    from services.cli.session import run

    lifetime = read_duration("--expires", expires)
    limits = Limits(input_tokens_per_request=input_tokens, **read_quotas(quotas or []))
    request = CreateKeyRequest(name=name, scopes=scopes, lifetime=lifetime, limits=limits, tenant=tenant)

    async def act(client: Client) -> int:
        response = await client.keys.create_key(request, client.call())
        if json:
            print_json(response)
            return 0
        key = response.key
        note = f"key {key.id} ({key.name}) is made; its secret is shown this once"
        console(stderr=True).print(printable(note), style="dim")
        console().print(response.secret)
        return 0

    run(act)


@app.command("list")
def list_keys(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    page: Annotated[str, typer.Option(help="Go on where the last list ended, by its token.")] = "",
    json: JsonOption = False,
) -> None:
    """List the keys, newest first, without their secrets."""
    from datetime import UTC, datetime

    from quartet.gateway.v1.key_pb2 import ListKeysRequest
    from services.cli.client import Client
    from services.cli.listing import print_keys
    from services.cli.render import console, print_json
    from services.cli.session import run

    async def act(client: Client) -> int:
        request = ListKeysRequest(page_size=limit, page_token=page)
        response = await client.keys.list_keys(request, client.call())
        if json:
            print_json(response)
            return 0
        print_keys(console(), response.keys, datetime.now(UTC))
        if response.next_page_token:
            console(stderr=True).print(f"there is more: --page {response.next_page_token}", style="dim")
        return 0

    run(act)


@app.command()
def rotate(
    key_id: KeyArgument,
    overlap: Annotated[
        str, typer.Option(metavar="SPAN", help="How long the old secret still works: 24h; 0 ends it now.")
    ] = "24h",
    json: JsonOption = False,
) -> None:
    """Give a key a new secret, which goes to stdout; a secret from before the last one ends now."""
    from quartet.gateway.v1.key_pb2 import RotateKeyRequest
    from services.cli.client import Client
    from services.cli.render import console, print_json
    from services.cli.session import run

    request = RotateKeyRequest(key_id=key_id, overlap=read_duration("--overlap", overlap))

    async def act(client: Client) -> int:
        response = await client.keys.rotate_key(request, client.call())
        if json:
            print_json(response)
            return 0
        ended = overlap and not request.overlap.ToNanoseconds()
        old = "no longer works" if ended else "works until the overlap ends"
        note = f"key {response.key.id} has a new secret, shown this once; the old one {old}"
        console(stderr=True).print(note, style="dim")
        console().print(response.secret)
        return 0

    run(act)


@app.command()
def revoke(key_id: KeyArgument, json: JsonOption = False) -> None:
    """End a key, everywhere within a second and for good."""
    from quartet.gateway.v1.key_pb2 import RevokeKeyRequest
    from services.cli.client import Client
    from services.cli.listing import moment
    from services.cli.render import console, print_json
    from services.cli.session import run

    async def act(client: Client) -> int:
        response = await client.keys.revoke_key(RevokeKeyRequest(key_id=key_id), client.call())
        if json:
            print_json(response)
        else:
            key = response.key
            console().print(f"key {key.id} is revoked since {moment(key.revoke_time)} UTC")
        return 0

    run(act)
