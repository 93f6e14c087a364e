"""Runs the double as a process of its own: `python -m tests.doubles.provider --port 0`."""

import argparse
import asyncio
import json
import os
import signal
import sys

from tests.doubles.provider.server import ProviderDouble


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="provider-double", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--chunks", type=int, help="pieces of text in a stream (default: a piece per word)")
    parser.add_argument(
        "--models", help="comma-separated; every other model answers 404 (default: accept all)"
    )
    parser.add_argument("--keep", type=int, default=1000, help="requests to remember; 0 remembers none")
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with ProviderDouble(
        models=arguments.models.split(",") if arguments.models else None,
        chunks=arguments.chunks,
        keep=arguments.keep,
        host=arguments.host,
        port=arguments.port,
    ) as double:
        sys.stdout.write(json.dumps({"url": double.url, "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(_serve(_arguments()))
