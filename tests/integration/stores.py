"""Runs the embedded PostgreSQL and Redis of QUARTET_HOME until SIGTERM; says their URLs as JSON."""

import asyncio
import json
import signal
import sys

from services.cli.settings import StackSettings
from services.cli.stack.home import hold_home
from services.cli.stack.ports import assign_ports
from services.cli.stack.postgres import prepare_postgres
from services.cli.stack.process import ProcessRoom, end_leftovers
from services.cli.stack.redis import prepare_redis
from services.cli.stack.supervisor import Supervisor


async def main() -> None:
    settings = StackSettings.load()
    room = ProcessRoom.within(settings.home)
    supervisor = Supervisor(room, say=sys.stderr.write)
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    with hold_home(settings.home):
        await end_leftovers(room)
        assigned = assign_ports(settings, ("postgres", "redis"))
        database_url, postgres = await prepare_postgres(assigned)
        redis_url, redis = await prepare_redis(assigned)
        try:
            await supervisor.start(postgres, redis)
            sys.stdout.write(json.dumps({"database_url": database_url, "redis_url": redis_url}) + "\n")
            sys.stdout.flush()
            await asked.wait()
        finally:
            await supervisor.stop()


asyncio.run(main())
