"""The part of the router's wiring that builds what makes the calls to models."""

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from services.kit.errors import Unavailable
from services.kit.settings import SettingsError
from services.router.adapters.anthropic.provider import DEFAULT_BASE_URL as ANTHROPIC_URL
from services.router.adapters.anthropic.provider import AnthropicProvider
from services.router.adapters.config.servers import CloudServer, CompatibleServer, Server
from services.router.adapters.extractive.provider import ExtractiveProvider
from services.router.adapters.http.client import HttpClient
from services.router.adapters.http.dialing import Dialer, Egress
from services.router.adapters.local_embeddings import LocalEmbeddings
from services.router.adapters.metered import Instruments, MeteredEmbedder, MeteredProvider
from services.router.adapters.minilm.embedder import MiniLMEmbedder
from services.router.adapters.openai.provider import DEFAULT_BASE_URL as OPENAI_URL
from services.router.adapters.openai.provider import OpenAIProvider
from services.router.adapters.transport import (
    COMMON_HEADERS,
    NO_KEY,
    SERVER_SENT_EVENTS,
    Client,
    Framing,
    Patience,
    Transport,
)
from services.router.domain.breaker import BreakerPolicy
from services.router.domain.catalogue import LOCAL, Dialect, ProviderState
from services.router.settings import Settings, read_secret
from services.router.wiring_clouds import missing_secrets, open_cloud

if TYPE_CHECKING:
    from services.router.domain.fleet import Fleet
    from services.router.ports import EmbeddingProvider, ModelProvider

log = logging.getLogger(__name__)


class Providers:
    """The providers while they are being collected; the stack closes them."""

    def __init__(self, stack: AsyncExitStack, instruments: Instruments, settings: Settings) -> None:
        self._stack = stack
        self._settings = settings
        self._instruments = instruments
        self._egress = Egress(proxy=settings.https_proxy, direct=settings.no_proxy)
        self._connect_timeout_s = settings.connect_timeout_s
        self._patience = Patience(
            first_token_s=settings.first_token_timeout_s,
            between_tokens_s=settings.between_tokens_timeout_s,
            max_answer_bytes=settings.max_answer_bytes,
        )
        self.fleet: Fleet | None = None
        """Is told, once it is there, what providers say of their limits."""
        self.states: dict[str, ProviderState] = {}
        self.models: dict[str, ModelProvider] = {}
        self.embedders: dict[str, EmbeddingProvider] = {}

    async def add_remote(self, servers: tuple[Server, ...]) -> None:
        """The vendors, and the servers of `models.yaml`."""
        settings = self._settings
        openai, anthropic = Dialect.OPENAI, Dialect.ANTHROPIC
        self._add_vendor(openai, settings.openai_base_url, OPENAI_URL, settings.openai_api_key)
        self._add_vendor(anthropic, settings.anthropic_base_url, ANTHROPIC_URL, settings.anthropic_api_key)
        for server in servers:
            if isinstance(server, CompatibleServer):
                self._add_compatible(server)
            else:
                await self._add_cloud(server)

    def _add_vendor(self, dialect: Dialect, url: str, default_url: str, api_key: str) -> None:
        name = dialect.value
        if api_key or url:
            self._add(name, dialect, self._connect(url or default_url, api_key))
        else:
            self._lack(name, dialect, (f"{name.upper()}_API_KEY", f"{name.upper()}_BASE_URL"))

    def _add_compatible(self, server: CompatibleServer) -> None:
        variable = server.api_key_variable
        key = read_secret(variable) if variable else ""
        if variable and not key:
            self._lack(server.name, server.speaks, (variable,))
        else:
            self._add(server.name, server.speaks, self._connect(server.base_url, key))

    async def _add_cloud(self, server: CloudServer) -> None:
        if missing := missing_secrets(server):
            self._lack(server.name, server.speaks, missing)
            return
        client = await asyncio.to_thread(open_cloud, server, self._egress, self._connect_timeout_s)
        self._add(server.name, server.speaks, client, client.framing)

    def _lack(self, name: str, dialect: Dialect, missing: tuple[str, ...]) -> None:
        self.states[name] = ProviderState(name=name, dialect=dialect, missing=missing)

    def _connect(self, url: str, api_key: str) -> HttpClient:
        dialer = Dialer(url, connect_timeout_s=self._connect_timeout_s, egress=self._egress)
        return HttpClient(url, dialer, {**COMMON_HEADERS, "authorization": f"Bearer {api_key or NO_KEY}"})

    def _add(
        self, name: str, dialect: Dialect, client: Client, framing: Framing = SERVER_SENT_EVENTS
    ) -> None:
        def note_rest(model: str, rest_s: float) -> None:
            if self.fleet is not None:
                self.fleet.throttle(model, name, rest_s)

        transport = Transport(client, self._patience, provider=name, note_rest=note_rest, framing=framing)
        self._stack.push_async_callback(transport.close)
        self.states[name] = ProviderState(name=name, dialect=dialect)
        if dialect is Dialect.ANTHROPIC:
            self.models[name] = MeteredProvider(AnthropicProvider(transport), self._instruments)
            return
        provider = OpenAIProvider(transport)
        self.models[name] = MeteredProvider(provider, self._instruments)
        self.embedders[name] = MeteredEmbedder(provider, self._instruments)

    async def add_local(self) -> MiniLMEmbedder:
        """The models that run in this process; the embedder is theirs."""
        settings = self._settings
        embedder = MiniLMEmbedder(settings.artifacts_dir / "minilm", threads=settings.embedder_threads)
        self._stack.push_async_callback(embedder.close)
        try:
            await embedder.start()
        except Unavailable as error:
            log.error("the local embedding model cannot be used: %s", error)
        self.states[LOCAL] = ProviderState(name=LOCAL, dialect=Dialect.LOCAL)
        self.models[LOCAL] = MeteredProvider(ExtractiveProvider(embedder), self._instruments)
        self.embedders[LOCAL] = MeteredEmbedder(LocalEmbeddings(embedder), self._instruments)
        return embedder


def check_addresses(settings: Settings, servers: tuple[Server, ...]) -> None:
    """Raises SettingsError for a provider's address that is this suite's own edge."""
    named = {
        "OPENAI_BASE_URL": settings.openai_base_url,
        "ANTHROPIC_BASE_URL": settings.anthropic_base_url,
        **{f"models.yaml, server {server.name}": server.base_url for server in servers},
    }
    for name, url in named.items():
        if url and settings.is_own_edge(url):
            raise SettingsError(f"{name} is this suite's own address: name a model provider's instead")


def breaker_policy(settings: Settings) -> BreakerPolicy:
    """When deployments cool down."""
    return BreakerPolicy(
        consecutive_failures=settings.breaker_failures,
        error_rate=settings.breaker_error_rate,
        min_calls=settings.breaker_min_calls,
        window_s=settings.breaker_window_s,
        cooldown_s=settings.breaker_cooldown_s,
        max_cooldown_s=settings.breaker_max_cooldown_s,
    )
