from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from services.cli.settings import SERVICES
from services.kit import process
from services.kit.serving import Server, serve_until_signal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from services.kit.process import Build
    from services.kit.settings import KitSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A service that shares this process: its own settings, and its composition root."""

    settings: KitSettings
    build: Build[KitSettings]


def serve_services(names: tuple[str, ...]) -> int:
    """Runs services in this process until SIGTERM and returns the exit status.

    Each listens at its own address, for peers that run elsewhere. Logs and spans bear the topmost one's name.
    SettingsError names a variable that is missing or wrong.
    """
    ordered = sorted(names, key=SERVICES.index)
    parts = [_load(name) for name in ordered]
    return process.run(ordered[-1], parts[-1].settings, lambda: serve_together(parts, serve_until_signal))


async def serve_together(parts: Sequence[Part], wait: Callable[[], Awaitable[None]]) -> None:
    """Serves the parts, callees first, until `wait` returns, then drains them, callers first.

    Each gets those before it as objects by the full name of their contract, and calls them without a network.
    """
    peers: dict[str, object] = {}
    async with AsyncExitStack() as stack:
        for part in parts:
            bindings = await stack.enter_async_context(part.build(part.settings, dict(peers)))
            peers.update((binding.service_name, binding.service) for binding in bindings)
            await stack.enter_async_context(Server(bindings, part.settings))
        await wait()


def _load(name: str) -> Part:
    settings = import_module(f"services.{name}.settings").Settings.load()
    return Part(settings=settings, build=import_module(f"services.{name}.wiring").build)
