from typing import Annotated

import typer

from services.cli.commands.options import JsonOption, LimitOption, PageOption

app = typer.Typer(help="What the collections hold.", no_args_is_help=True)

CollectionOption = Annotated[str, typer.Option("--collection", "-c", help="Where to look.")]


def collections(limit: LimitOption = 1000, page: PageOption = "", json: JsonOption = False) -> None:
    """List the collections and how much they hold."""
    from quartet.gateway.v1.document_pb2 import ListCollectionsRequest
    from services.cli.listing import print_collections
    from services.cli.render import console
    from services.cli.session import show

    request = ListCollectionsRequest(page_size=limit, page_token=page)
    show(
        lambda client: client.documents.list_collections(request, client.call()),
        lambda found: print_collections(console(), found.collections),
        json=json,
    )


@app.command("list")
def list_documents(
    collection: CollectionOption = "default",
    limit: LimitOption = 100,
    page: PageOption = "",
    json: JsonOption = False,
) -> None:
    """List the documents of a collection, by source."""
    from quartet.gateway.v1.document_pb2 import ListDocumentsRequest
    from services.cli.listing import print_documents
    from services.cli.render import console
    from services.cli.session import show

    request = ListDocumentsRequest(collection=collection, page_size=limit, page_token=page)
    show(
        lambda client: client.documents.list_documents(request, client.call()),
        lambda found: print_documents(console(), found.documents),
        json=json,
    )


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
    from quartet.gateway.v1.document_pb2 import SearchRequest, SearchResponse
    from services.cli.commands.ask import read_text
    from services.cli.presentation import print_passage
    from services.cli.render import console
    from services.cli.session import show

    request = SearchRequest(collection=collection, query=read_text(query), top_k=top, threshold=threshold)

    def tell(found: SearchResponse) -> None:
        for passage in found.passages:
            print_passage(passage, console())
        if not found.passages:
            console(stderr=True).print("nothing near enough was found; --threshold lowers the floor")

    show(lambda client: client.documents.search(request, client.call()), tell, json=json)
