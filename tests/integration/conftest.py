from collections.abc import AsyncIterator

import pytest_asyncio

from tests.doubles.provider import ProviderDouble


@pytest_asyncio.fixture
async def double() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble() as double:
        yield double
