"""Runs a command on a connection, and ends it with a code and, where it failed, one clear line."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import typer
from google.protobuf.message import Message

from services.cli.client import Client, connect, open_channel
from services.cli.render import console, print_json, printable
from services.cli.settings import ClientSettings
from services.kit.errors import Internal, QuartetError, Unauthenticated
from services.kit.settings import SettingsError

FAILURE = 1
USAGE = 2
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

Answer = TypeVar("Answer", bound=Message)


def run(command: Callable[[Client], Coroutine[Any, Any, int]]) -> None:
    """Runs the command to its end and exits with what it returns; errors become a line on stderr."""
    settings = load_settings()
    try:
        code = asyncio.run(_connected(settings, command))
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code:
        raise typer.Exit(code)


def show(ask: Callable[[Client], Awaitable[Answer]], tell: Callable[[Answer], None], *, json: bool) -> None:
    """Runs a command that is one call; its answer is one line of JSON, or what `tell` writes for people.

    Behind a page that is not the last, stderr says how to go on.
    """

    async def act(client: Client) -> int:
        answer = await ask(client)
        if json:
            print_json(answer)
            return 0
        tell(answer)
        if token := getattr(answer, "next_page_token", ""):
            console(stderr=True).print(f"there is more: --page {token}", style="dim")
        return 0

    run(act)


def load_settings() -> ClientSettings:
    """The client's settings; a wrong one ends the program as wrong usage does."""
    try:
        settings = ClientSettings.load()
        settings.read_key()
        open_channel(settings)
    except SettingsError as error:
        console(stderr=True).print(f"error: {error}", style="red")
        raise typer.Exit(USAGE) from None
    return settings


async def _connected(settings: ClientSettings, command: Callable[[Client], Coroutine[Any, Any, int]]) -> int:
    async with connect(settings) as client:
        try:
            return await command(client)
        except QuartetError as error:
            print_error(error, client)
            return FAILURE


def print_error(error: QuartetError, client: Client) -> None:
    """Writes an error's line to stderr, and below it what to do where the server could not say."""
    to = console(stderr=True)
    to.print(f"error: {describe(error, client)}", style="red")
    if advice := advise(error, client):
        to.print(f"       {advice}", style="dim")


def describe(error: QuartetError, client: Client) -> str:
    """An error on one line: its message, and in brackets what programs and operators look for."""
    message = error.message
    if error.reason == "PEER_UNREACHABLE":
        cause = message.rpartition(": ")[2]
        message = f"no suite answers at {client.settings.url}: {message if cause == 'OK' else cause}"
    facts = [error.reason]
    facts += [f"field {name}" for name in dict.fromkeys(_fields(error))]
    facts += [f"{violation.subject}: {violation.description}" for violation in error.quota_violations]
    if error.retry_after_s is not None:
        facts.append(f"retry after {error.retry_after_s:g} s")
    if error_id := error.metadata.get("id"):
        facts.append(f"error id {error_id}")
    if client.trace_id:
        facts.append(f"trace {client.trace_id}")
    return " ".join(printable(f"{message} [{', '.join(facts)}]").split())


def advise(error: QuartetError, client: Client) -> str:
    """What the caller can do about an error that the server cannot explain; empty where it did."""
    if error.reason == "PEER_UNREACHABLE":
        return "Start it with `make run` (or `quartet up`), or set QUARTET_URL to where it is."
    if isinstance(error, Unauthenticated):
        tried = "The key that was sent is not valid" if client.has_key else "No key was sent"
        return (
            f"{tried}: set QUARTET_API_KEY, or QUARTET_HOME to the folder in which `quartet up` "
            f"left dev.key (looked for {client.settings.key_file})."
        )
    if isinstance(error, Internal):
        return "This is a fault of the suite: the service's log has the stack beside the id."
    return ""


def _fields(error: QuartetError) -> list[str]:
    return [violation.field for violation in error.field_violations if violation.field]
