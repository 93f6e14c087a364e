from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.commands.ask import AgentOption, CollectionOption, ModelOption, choose_target, read_text
from services.cli.commands.options import JsonOption

if TYPE_CHECKING:
    from quartet.common.v1.decision_pb2 import Candidate, Decision
    from services.cli.client import Client


def explain(
    prompt: Annotated[str, typer.Argument(help="What would be asked; `-` reads it from stdin.")],
    collection: CollectionOption = "",
    model: ModelOption = "",
    agent: AgentOption = False,
    session: Annotated[str, typer.Option(help="The conversation that it would continue.")] = "",
    label: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, as the request would bear it; repeatable.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show how a prompt would be routed and why, without calling a model."""
    from services.cli.session import run

    target = choose_target(model, collection, agent=agent, default="auto")
    text = read_text(prompt)
    labels = dict(map(_read_label, label or ()))
    run(lambda client: _explain(client, target, text, session=session, labels=labels, json=json))


def _read_label(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise typer.BadParameter(f"{text!r} is no label: give it as NAME=VALUE", param_hint="--label")
    return name, value


async def _explain(
    client: "Client", target: str, text: str, *, session: str, labels: dict[str, str], json: bool
) -> int:
    from quartet.gateway.v1 import gateway_pb2
    from services.cli.answer import make_generation, user_message
    from services.cli.render import print_json

    generation = make_generation(target, [user_message(text)])
    generation.session = session
    generation.labels.update(labels)
    request = gateway_pb2.ExplainRouteRequest(generation=generation)
    response = await client.gateway.explain_route(request, client.call())
    if json:
        print_json(response)
    else:
        _print_decision(response.decision, response.input_tokens)
    return 0


def _print_decision(decision: "Decision", input_tokens: int) -> None:
    from services.cli.presentation import describe_handler
    from services.cli.render import console, print_table, printable

    out = console()
    facts = [
        ("route", decision.route or "none: the handler was named"),
        ("intent", decision.intent or "not asked"),
        ("confidence", f"{decision.confidence:.2f}"),
        ("rule", decision.rule),
        ("handler", describe_handler(decision)),
        ("input", f"{input_tokens} tokens"),
    ]
    if decision.max_output_tokens:
        facts.append(("output", f"at most {decision.max_output_tokens} tokens"))
    if decision.HasField("uplift"):
        facts.append(("uplift", f"{decision.uplift:.2f}"))
    if decision.session:
        facts.append(("session", decision.session))
    for name, value in facts:
        out.print(printable(f"{name:<11} {value}"))
    for warning in decision.warnings:
        out.print(printable(f"warning     {warning}"), style="yellow")
    if decision.candidates:
        out.print()
        columns = ("candidate", "provider", "estimated cost", "outcome")
        print_table(out, columns, (_row(candidate) for candidate in decision.candidates))


def _row(candidate: "Candidate") -> tuple[str, str, str, str]:
    from services.cli.render import usd

    outcome = "chosen" if candidate.chosen else candidate.rejected_because or "not needed"
    return candidate.model, candidate.provider, usd(candidate.estimated_cost_micro_usd), outcome
