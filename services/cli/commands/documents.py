from typing import Annotated

import typer

app = typer.Typer(help="What the collections hold.", no_args_is_help=True)

CollectionOption = Annotated[str, typer.Option("--collection", "-c", help="Where to look.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def collections(json: JsonOption = False) -> None:
    """List the collections and how much they hold."""
    from quartet.gateway.v1.document_pb2 import ListCollectionsRequest
    from services.cli.client import Client
    from services.cli.listing import print_collections
    from services.cli.render import console, print_json
    from services.cli.session import run

    async def act(client: Client) -> int:
        request = ListCollectionsRequest(page_size=1000)
        response = await client.documents.list_collections(request, client.call())
        if json:
            print_json(response)
        else:
            print_collections(console(), response.collections)
        return 0

    run(act)


@app.command("list")
def list_documents(
    collection: CollectionOption = "default",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    page: Annotated[str, typer.Option(help="Go on where the last list ended, by its token.")] = "",
    json: JsonOption = False,
) -> None:
    """List the documents of a collection, by source."""
    from quartet.gateway.v1.document_pb2 import ListDocumentsRequest
    from services.cli.client import Client
    from services.cli.listing import print_documents
    from services.cli.render import console, print_json
    from services.cli.session import run

    async def act(client: Client) -> int:
        request = ListDocumentsRequest(collection=collection, page_size=limit, page_token=page)
        response = await client.documents.list_documents(request, client.call())
        if json:
            print_json(response)
            return 0
        print_documents(console(), response.documents)
        if response.next_page_token:
            console(stderr=True).print(f"there is more: --page {response.next_page_token}", style="dim")
        return 0

    run(act)


def search(
    query: Annotated[str, typer.Argument(help="What is looked for; `-` reads it from stdin.")],
    collection: CollectionOption = "default",
    top: Annotated[int, typer.Option(min=1, max=100, help="How many passages at most.")] = 5,
    threshold: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Least similarity; the embedder's floor if not given.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Find the passages of a collection that are nearest to a query."""
    from quartet.gateway.v1.document_pb2 import SearchRequest
    from services.cli.client import Client
    from services.cli.commands.ask import read_text
    from services.cli.presentation import print_passage
    from services.cli.render import console, print_json
    from services.cli.session import run

    text = read_text(query)

    async def act(client: Client) -> int:
        request = SearchRequest(collection=collection, query=text, top_k=top, threshold=threshold)
        response = await client.documents.search(request, client.call())
        if json:
            print_json(response)
            return 0
        for passage in response.passages:
            print_passage(passage, console())
        if not response.passages:
            console(stderr=True).print("nothing near enough was found; --threshold lowers the floor")
        return 0

    run(act)
