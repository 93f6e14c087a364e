from services.cli.commands.options import JsonOption


def models(
    json: JsonOption = False,
) -> None:
    """List every name that `--model` takes, with prices, and why one cannot answer."""
    from quartet.gateway.v1.gateway_pb2 import ListModelsRequest
    from services.cli.client import Client
    from services.cli.listing import print_models
    from services.cli.render import console, print_json
    from services.cli.session import run

    async def act(client: Client) -> int:
        response = await client.gateway.list_models(ListModelsRequest(), client.call())
        if json:
            print_json(response)
        else:
            print_models(console(), response.models)
        return 0

    run(act)
