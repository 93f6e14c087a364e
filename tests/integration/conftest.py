import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.databases import copy_database
from tests.doubles.provider import ProviderDouble


@pytest_asyncio.fixture
async def double() -> AsyncIterator[ProviderDouble]:
    async with ProviderDouble() as double:
        yield double


@pytest_asyncio.fixture(scope="module")
async def provider() -> AsyncIterator[ProviderDouble]:
    """Of a whole module, for services that outlive a test."""
    async with ProviderDouble() as double:
        yield double


@pytest.fixture
def reset_provider(provider: ProviderDouble) -> ProviderDouble:
    """The module's provider, without memory of other tests."""
    provider.reset()
    return provider


@pytest_asyncio.fixture(scope="module")
async def module_database(database_template: str) -> AsyncIterator[str]:
    """A copy of the template for all tests of a module."""
    async with copy_database(database_template) as url:
        yield url


@pytest.fixture
def tenant() -> str:
    """One that no other test has."""
    return f"tenant-{secrets.token_hex(6)}"
