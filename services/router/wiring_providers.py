"""The part of the router's wiring that builds what makes the calls to models."""

import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from services.kit.errors import Unavailable
from services.kit.settings import SettingsError
from services.router.adapters.anthropic.provider import DEFAULT_BASE_URL as ANTHROPIC_URL
from services.router.adapters.anthropic.provider import AnthropicProvider
from services.router.adapters.config.models import ServerAddress
from services.router.adapters.extractive.provider import ExtractiveProvider
from services.router.adapters.http.client import HttpClient
from services.router.adapters.http.dialing import Dialer, Egress
from services.router.adapters.local_embeddings import LocalEmbeddings
from services.router.adapters.metered import Instruments, MeteredEmbedder, MeteredProvider
from services.router.adapters.minilm.embedder import MiniLMEmbedder
from services.router.adapters.openai.provider import DEFAULT_BASE_URL as OPENAI_URL
from services.router.adapters.openai.provider import OpenAIProvider
from services.router.adapters.transport import COMMON_HEADERS, NO_KEY, Patience, Transport
from services.router.domain.breaker import BreakerPolicy
from services.router.domain.catalogue import LOCAL, Dialect, ProviderState
from services.router.settings import Settings, read_secret

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

    def add_remote(self, servers: tuple[ServerAddress, ...]) -> None:
        """The vendors, and the servers of `models.yaml`."""
        settings = self._settings
        self._add_openai(
            "openai",
            settings.openai_base_url,
            settings.openai_api_key,
            missing=("OPENAI_API_KEY", "OPENAI_BASE_URL"),
        )
        self._add_anthropic(
            "anthropic",
            settings.anthropic_base_url,
            settings.anthropic_api_key,
            missing=("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
        )
        for server in servers:
            key = read_secret(server.api_key_variable) if server.api_key_variable else ""
            missing = (server.api_key_variable,) if server.api_key_variable and not key else ()
            add = self._add_anthropic if server.dialect is Dialect.ANTHROPIC else self._add_openai
            add(server.name, server.base_url, key, missing=missing)

    def _add_openai(self, name: str, base_url: str, api_key: str, *, missing: tuple[str, ...]) -> None:
        if missing and (api_key or (base_url and name == "openai")):
            missing = ()
        self.states[name] = ProviderState(name=name, dialect=Dialect.OPENAI, missing=missing)
        if not missing:
            provider = OpenAIProvider(self._connect(name, base_url or OPENAI_URL, api_key))
            self.models[name] = MeteredProvider(provider, self._instruments)
            self.embedders[name] = MeteredEmbedder(provider, self._instruments)

    def _add_anthropic(self, name: str, base_url: str, api_key: str, *, missing: tuple[str, ...]) -> None:
        if missing and (api_key or (base_url and name == "anthropic")):
            missing = ()
        self.states[name] = ProviderState(name=name, dialect=Dialect.ANTHROPIC, missing=missing)
        if not missing:
            provider = AnthropicProvider(self._connect(name, base_url or ANTHROPIC_URL, api_key))
            self.models[name] = MeteredProvider(provider, self._instruments)

    def _connect(self, name: str, url: str, api_key: str) -> Transport:
        dialer = Dialer(url, connect_timeout_s=self._connect_timeout_s, egress=self._egress)
        headers = {**COMMON_HEADERS, "authorization": f"Bearer {api_key or NO_KEY}"}

        def note_rest(model: str, rest_s: float) -> None:
            if self.fleet is not None:
                self.fleet.throttle(model, name, rest_s)

        client = HttpClient(url, dialer, headers)
        transport = Transport(client, self._patience, provider=name, note_rest=note_rest)
        self._stack.push_async_callback(transport.close)
        return transport

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


def check_addresses(settings: Settings, servers: tuple[ServerAddress, ...]) -> None:
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
