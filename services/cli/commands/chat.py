import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from services.cli.commands.ask import AgentOption, CollectionOption, ModelOption, choose_target

if TYPE_CHECKING:
    import asyncio

    from services.cli.conversation import Conversation


def chat(collection: CollectionOption = "", model: ModelOption = "", agent: AgentOption = False) -> None:
    """Talk: each answer knows what was said before. Lines that are piped in are answered one by one."""
    import asyncio

    from services.cli.client import connect
    from services.cli.conversation import Conversation
    from services.cli.session import FAILURE, load_settings

    target = choose_target(model, collection, agent=agent)
    connection = connect(load_settings())
    with asyncio.Runner() as runner:
        conversation = Conversation(runner.run(connection.__aenter__()), target)
        try:
            _talk(conversation, runner)
        finally:
            runner.run(connection.__aexit__(None, None, None))
    if conversation.failures and not sys.stdin.isatty():
        raise typer.Exit(FAILURE)


def _talk(conversation: "Conversation", runner: "asyncio.Runner") -> None:
    for line in _lines(conversation):
        try:
            runner.run(conversation.take(line))
        except KeyboardInterrupt:
            typer.echo("\nstopped", err=True)
        if conversation.ended:
            return


def _lines(conversation: "Conversation") -> Iterator[str]:
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    import readline  # noqa: F401 - gives `input` its line editing and history

    typer.echo(f"{conversation.target} answers; /help lists the commands")
    while True:
        try:
            yield input("> ")
        except (EOFError, KeyboardInterrupt):
            typer.echo()
            return
