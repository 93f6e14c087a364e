"""A suite whose `quartet up` was killed hard comes up again, and a second one is told who is in its way."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from redis.asyncio import Redis

from services.cli.stack.process import Identity
from tests.e2e.stores import redis_of
from tests.e2e.suite import ROOT, Suite, environment_of, make_home, run_up
from tests.e2e.vitals import make_key


async def refused(suite: Suite, **variables: str) -> str:
    """What a second `quartet up` says that cannot run beside the first."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli", "up"),
        cwd=ROOT,
        env={**suite.environment, **variables},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 1
    return output.decode()


async def test_a_suite_killed_hard_comes_up_again_at_its_ports_with_all_its_data(tmp_path: Path) -> None:
    with make_home() as home:
        environment = environment_of(home)
        async with run_up(home, environment) as suite:
            await make_key(suite, "kept-key")
            async with Redis.from_url(redis_of(suite)) as redis:
                await redis.set("kept", "yes")
            key, lost = suite.api_key, suite.pids()
            os.kill(suite.process.pid, signal.SIGKILL)
            await suite.process.wait()
        async with run_up(home, environment) as suite:
            assert suite.api_key == key
            assert "kept-key" in await suite.quartet("keys", "list")
            async with Redis.from_url(redis_of(suite)) as redis:
                assert await redis.get("kept") == b"yes"
            assert len(suite.pids()) == len(lost) == 7
            assert not set(lost.values()) & set(suite.pids().values())
            assert not [pid for pid in lost.values() if Identity.of(pid)]

            pid = suite.process.pid
            assert f"(process {pid}). Stop it with Ctrl-C or `kill {pid}`" in await refused(suite)
            said = await refused(suite, QUARTET_HOME=str(tmp_path / "other"))
            assert f"for the edge is taken by envoy (process {suite.pid('envoy')}, started by " in said
            assert f", process {pid}): stop it, or set QUARTET_EDGE_PORT" in said
