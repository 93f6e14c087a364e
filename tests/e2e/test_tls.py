"""The suite behind TLS, with a certificate of its own making."""

import json

from tests.e2e.suite import run_suite


async def test_the_command_line_speaks_to_a_suite_behind_tls() -> None:
    async with run_suite(QUARTET_TLS="1") as suite:
        assert suite.url.startswith("https://")
        assert "gateway" in await suite.quartet("status")
        models = json.loads(await suite.quartet("models", "--json"))
        assert models
