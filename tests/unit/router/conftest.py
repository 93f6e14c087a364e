"""Shared makers of domain values: the shipped tables, prompts, models."""

import ssl
from collections.abc import AsyncIterator, Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import trustme

from quartet.common.v1 import message_pb2 as message
from quartet.router.v1.router_pb2 import Prompt
from services.router.adapters.config.models import read_models
from services.router.adapters.config.routes import read_routes
from services.router.domain.catalogue import LOCAL, Catalogue, Dialect, Providers, ProviderState
from services.router.domain.decision import Decider
from services.router.domain.routes import RouteTable
from tests.unit.router.http_peer import HELLO, Peer

CONFIG = Path(__file__).parents[3] / "config"
TODAY = date(2026, 11, 24)

Ask = Callable[..., Prompt]
Decide = Callable[..., Decider]


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return read_models(CONFIG / "models.yaml")[0]


@pytest.fixture(scope="session")
def routes(catalogue: Catalogue) -> RouteTable:
    return read_routes(CONFIG / "routes.yaml", catalogue)


def provider_states(*, openai: bool = True, anthropic: bool = True) -> Providers:
    def missing(name: str, configured: bool) -> tuple[str, ...]:
        return () if configured else (f"{name}_API_KEY", f"{name}_BASE_URL")

    return {
        "openai": ProviderState(name="openai", dialect=Dialect.OPENAI, missing=missing("OPENAI", openai)),
        "anthropic": ProviderState(
            name="anthropic", dialect=Dialect.ANTHROPIC, missing=missing("ANTHROPIC", anthropic)
        ),
        LOCAL: ProviderState(name=LOCAL, dialect=Dialect.LOCAL),
    }


@pytest.fixture
def decider(catalogue: Catalogue, routes: RouteTable) -> Decide:
    """Makes a decider on a day, with the vendors that are configured."""

    def make(*, today: date = TODAY, **configured: bool) -> Decider:
        return Decider(catalogue, routes, provider_states(**configured), lambda: today)

    return make


@pytest.fixture
def ask() -> Ask:
    """Makes a prompt of one user message; a keyword `model` or `route` names the target."""

    def make(text: str = "hi", *, model: str = "", route: str = "", **fields: Any) -> Prompt:
        turn = message.Message(role=message.ROLE_USER, parts=[message.Part(text=text)])
        prompt = Prompt(messages=[turn], **fields)
        if model:
            prompt.target.model = model
        if route:
            prompt.target.route = route
        return prompt

    return make


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def secure_peer(authority: trustme.CA) -> AsyncIterator[Peer]:
    """Says hello over TLS, as `localhost`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    async with Peer(HELLO, tls=context) as peer:
        yield peer
