"""A router process with the vendors' models in three clouds answers by each, and drains."""

import asyncio
import os
import signal
import sys
from contextlib import aclosing
from pathlib import Path

from quartet.common.v1 import message_pb2 as message
from quartet.router.v1.router_pb2 import StreamGenerateRequest
from services.kit.call import Call
from services.kit.client import remote
from tests.contract.router.clouds import MODELS, SECRETS, write_config
from tests.doubles.provider import ProviderDouble
from tests.integration.test_router_process import SERVICE, free_port, wait_for_listener


async def test_a_router_process_answers_by_three_clouds(tmp_path: Path) -> None:
    port = free_port()
    async with ProviderDouble() as double:
        environment = os.environ | {
            "ROUTER_PORT": str(port),
            "QUARTET_CONFIG_DIR": str(write_config(tmp_path, double.url)),
            "QUARTET_ARTIFACTS_DIR": str(tmp_path),
            "GOOGLE_CREDENTIALS": double.clouds.service_account(double.url),
            "REDIS_URL": "",
            **SECRETS,
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.router", env=environment
        )
        try:
            await wait_for_listener(port)
            client = remote(SERVICE, f"127.0.0.1:{port}")
            answered = {}
            for model in MODELS:
                request = StreamGenerateRequest()
                request.prompt.target.model = model
                request.prompt.messages.add(role=message.ROLE_USER).parts.add(text="Hello there")
                text = ""
                async with aclosing(client.stream_generate(request, Call.root(timeout_s=20))) as events:
                    async for event in events:
                        text += event.delta.text
                answered[event.end.model] = text
            await client.close()
        finally:
            process.send_signal(signal.SIGTERM)
            status = await asyncio.wait_for(process.wait(), 30)
    assert answered == dict.fromkeys(MODELS, "You said: Hello there")
    assert status == 0
