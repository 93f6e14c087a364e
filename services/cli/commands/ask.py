import sys
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.commands.options import JsonOption

if TYPE_CHECKING:
    from services.cli.client import Client

DEFAULT_COLLECTION = "default"

CollectionOption = Annotated[
    str, typer.Option("--collection", "-c", help="The documents to answer from; `default` when not given.")
]
ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="auto, a model, route/NAME, rag/NAME, pipeline/NAME, agent/NAME.")
]
AgentOption = Annotated[bool, typer.Option("--agent", help="Plan, act, judge and replan to find the answer.")]


def ask(
    question: Annotated[str, typer.Argument(help="The question; `-` reads it from stdin.")],
    collection: CollectionOption = "",
    model: ModelOption = "",
    agent: AgentOption = False,
    stream: Annotated[bool, typer.Option("--stream/--no-stream", help="Write the text as it comes.")] = True,
    stages: Annotated[bool, typer.Option("--stages", help="Say what each stage of a pipeline did.")] = False,
    json: JsonOption = False,
) -> None:
    """Ask one question; by default it is answered from the documents of a collection, with citations."""
    from services.cli.session import run

    target = choose_target(model, collection, agent=agent)
    text = read_text(question)
    run(lambda client: _ask(client, target, text, stream=stream, stages=stages, json=json))


def choose_target(model: str, collection: str, *, agent: bool, default: str = "") -> str:
    """The name, as in `/v1/models`, of who is to answer; raises BadParameter for options that conflict."""
    if model and (agent or collection):
        hint = "name both in the model, as `rag/NAME` or `agent/NAME`"
        raise typer.BadParameter(f"--model does not go with --agent or --collection: {hint}")
    if model:
        return model
    if agent:
        return f"agent/{collection or DEFAULT_COLLECTION}"
    if default and not collection:
        return default
    return f"rag/{collection or DEFAULT_COLLECTION}"


def read_text(argument: str) -> str:
    """The argument, or stdin where it is `-`; raises BadParameter when there is nothing in it."""
    text = sys.stdin.read() if argument == "-" else argument
    if not text.strip():
        raise typer.BadParameter("there is nothing in it" if argument != "-" else "stdin is empty")
    return text.strip()


async def _ask(client: "Client", target: str, text: str, *, stream: bool, stages: bool, json: bool) -> int:
    from services.cli.answer import (
        fetch_answer,
        make_generation,
        stream_answer,
        user_message,
    )
    from services.cli.presentation import Screen, answer_as_json
    from services.cli.render import print_json

    screen = Screen(progress=stages or target.startswith("agent"))
    generation = make_generation(target, [user_message(text)])
    if stream:
        write = (lambda _: None) if json else screen.write
        answer = await stream_answer(client, generation, write=write, note=screen.note)
    else:
        answer = await fetch_answer(client, generation)
    if json:
        print_json(answer_as_json(answer))
    else:
        screen.end(answer)
    return 0 if answer.text.strip() else 1
