"""The pipeline service as a process with a router in it that notes what it embeds.

`python -m tests.doubles.pipeline_process FILE` says its address as JSON and serves until SIGTERM.
"""

import asyncio
import json
import sys
from pathlib import Path

from quartet.router.v1 import router_pb2
from services.kit.call import Call
from services.kit.serving import Server, serve_until_signal
from services.pipeline.settings import Settings
from services.pipeline.wiring import ROUTER, build
from tests.doubles.router import FakeRouter

PAUSE_S = 0.2


class NotingRouter(FakeRouter):
    """Embeds slowly, and notes each text in a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    async def embed(self, request: router_pb2.EmbedRequest, call: Call) -> router_pb2.EmbedResponse:
        if request.texts[0] != "dimension":
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(text.replace("\n", ": ") + "\n" for text in request.texts)
            await asyncio.sleep(PAUSE_S)
        return await super().embed(request, call)


async def main() -> None:
    settings = Settings.load().model_copy(update={"port": 0})
    async with (
        build(settings, {ROUTER: NotingRouter(Path(sys.argv[1]))}) as bindings,
        Server(bindings, settings) as server,
    ):
        sys.stdout.write(json.dumps({"address": server.address}) + "\n")
        sys.stdout.flush()
        await serve_until_signal()


if __name__ == "__main__":
    asyncio.run(main())
