from __future__ import annotations

from contextlib import AsyncExitStack
from importlib import import_module
from typing import TYPE_CHECKING

from services.cli.settings import SERVICES
from services.kit import process
from services.kit.serving import Server, serve_until_signal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from services.kit.settings import KitSettings


def serve_services(names: tuple[str, ...]) -> int:
    """Runs services in this process until SIGTERM and returns the exit status.

    Each listens at its own address, for peers that run elsewhere. Logs and spans bear the topmost one's name.
    SettingsError names a variable that is missing or wrong.
    """
    ordered = sorted(names, key=SERVICES.index)
    settings: Mapping[str, KitSettings] = {
        name: import_module(f"services.{name}.settings").Settings.load() for name in ordered
    }
    return process.run(ordered[-1], settings[ordered[-1]], lambda: _serve(settings))


async def _serve(settings: Mapping[str, KitSettings]) -> None:
    """Builds callees first, so that a service gets its co-located peers as objects; drains callers first."""
    peers: dict[str, object] = {}
    async with AsyncExitStack() as stack:
        for name, own in settings.items():
            wiring = import_module(f"services.{name}.wiring")
            bindings = await stack.enter_async_context(wiring.build(own, peers))
            peers.update((binding.service_name, binding.service) for binding in bindings)
            await stack.enter_async_context(Server(bindings, own))
        await serve_until_signal()
