"""A router process with the vendors' models in three clouds answers by each, and drains."""

import asyncio
import signal
from contextlib import aclosing
from pathlib import Path

from quartet.common.v1 import message_pb2 as message
from quartet.router.v1.router_pb2 import StreamGenerateRequest
from services.kit.call import Call
from tests.contract.router.clouds import MODELS, SECRETS, write_config
from tests.doubles.provider import ProviderDouble
from tests.integration.processes import run_service
from tests.integration.test_router_process import SERVICE


async def test_a_router_process_answers_by_three_clouds(tmp_path: Path, double: ProviderDouble) -> None:
    environment = {
        "QUARTET_CONFIG_DIR": str(write_config(tmp_path, double.url)),
        "QUARTET_ARTIFACTS_DIR": str(tmp_path),
        "GOOGLE_CREDENTIALS": double.clouds.service_account(double.url),
        "REDIS_URL": "",
        **SECRETS,
    }
    async with run_service("router", SERVICE, **environment) as (process, client):
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
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
    assert answered == dict.fromkeys(MODELS, "You said: Hello there")
