"""`models.yaml`: read, checked, and turned into the catalogue and the servers that it names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from services.kit.config_file import ConfigFile, Location, Strict
from services.router.adapters.config.entries import (
    BatchEntry,
    EmbeddingCache,
    ModelEntry,
    Origin,
    TraitsEntry,
)
from services.router.adapters.config.prices import read_prices
from services.router.adapters.config.servers import Server
from services.router.domain.catalogue import (
    LOCAL,
    Batching,
    Capability,
    Catalogue,
    CatalogueError,
    Dialect,
    Limits,
    Model,
    Site,
    Traits,
    VectorCaching,
)

DIALECTS: Mapping[str, Dialect] = {
    "openai": Dialect.OPENAI,
    "anthropic": Dialect.ANTHROPIC,
    LOCAL: Dialect.LOCAL,
}


class _VendorModel(ModelEntry):
    provider: str = Field(pattern="^(openai|anthropic|local)$")


class _Models(Strict):
    sources: dict[str, Origin]
    default_embedding: str
    embedding_cache: EmbeddingCache | Literal[False] = EmbeddingCache()
    models: tuple[_VendorModel, ...] = Field(min_length=1)
    servers: tuple[Server, ...] = ()


def read_models(path: Path) -> tuple[Catalogue, tuple[Server, ...]]:
    """The models and servers of the file; raises SettingsError naming the line of each fault."""
    source = ConfigFile(path)
    content = source.read(_Models)
    models: list[Model] = []
    locations: list[Location] = []
    for index, entry in enumerate(content.models):
        locations.append(("models", index))
        models.append(_model(entry, entry.provider, DIALECTS[entry.provider], content, source, locations[-1]))
    names = set(DIALECTS)
    for number, server in enumerate(content.servers):
        if server.name in names:
            raise source.fault(
                ("servers", number, "name"), f"{server.name!r} is taken by another server or a vendor"
            )
        names.add(server.name)
        for index, own in enumerate(server.models):
            locations.append(("servers", number, "models", index))
            models.append(_model(own, server.name, server.speaks, content, source, locations[-1]))
    try:
        catalogue = Catalogue(models, default_embedding=content.default_embedding)
    except CatalogueError as error:
        raise source.fault(locations[error.model], str(error)) from None
    return catalogue, content.servers


def _model(
    entry: ModelEntry,
    provider: str,
    dialect: Dialect,
    content: _Models,
    source: ConfigFile,
    location: Location,
) -> Model:
    named = [entry.source, *(line.source for line in entry.prices)]
    if entry.shutdown:
        named.append(entry.shutdown.source)
    for name in named:
        if name and name not in content.sources:
            raise source.fault((*location, "source"), f"the source {name!r} is not among `sources`")
    if provider in DIALECTS and not entry.source:
        raise source.fault((*location, "id"), "say in `source` where the figures are from")
    embeds = Capability.EMBEDDINGS in entry.capabilities
    if not embeds and (entry.batch is not None or entry.cache is not None):
        raise source.fault((*location, "id"), "`batch` and `cache` are for models that make embeddings")
    batch = entry.batch or BatchEntry()
    return Model(
        id=entry.id,
        provider=provider,
        dialect=dialect,
        upstream=entry.upstream or entry.id,
        prices=read_prices(entry, content.sources, source, location),
        context_window=entry.context_window,
        max_output_tokens=entry.max_output_tokens,
        capabilities=entry.capabilities,
        traits=Traits(**{name: getattr(entry.traits, name) for name in TraitsEntry.model_fields}),
        aliases=entry.aliases,
        dimension=entry.dimension,
        batching=Batching(texts=batch.texts, tokens=batch.tokens, concurrent=batch.concurrent),
        vector_caching=_vector_caching(entry, content) if embeds else None,
        shutdown=entry.shutdown.date if entry.shutdown else None,
        successor=entry.successor,
        sites=_sites(entry, provider, dialect, content, source, location),
        balance=entry.balance,
        first_token_s=entry.first_token_s,
        between_tokens_s=entry.between_tokens_s,
    )


def _vector_caching(entry: ModelEntry, content: _Models) -> VectorCaching | None:
    """The model's own entry, else the one for all."""
    shared = content.embedding_cache
    own = shared if entry.cache is None else entry.cache
    if own is False:
        return None
    bound = shared or EmbeddingCache()
    return VectorCaching(ttl_s=own.ttl_s, max_tenant_bytes=bound.max_tenant_mib * 1024 * 1024)


def _sites(
    entry: ModelEntry,
    provider: str,
    dialect: Dialect,
    content: _Models,
    source: ConfigFile,
    location: Location,
) -> tuple[Site, ...]:
    dialects = {**DIALECTS, **{server.name: server.speaks for server in content.servers}}
    seen: set[str] = set()
    for index, deployment in enumerate(entry.deployments):
        where, name = (*location, "deployments", index, "provider"), deployment.provider
        if name not in dialects:
            raise source.fault(where, f"there is no provider or server {name!r}")
        if dialects[name] is not dialect:
            raise source.fault(where, f"{name} speaks another dialect than {provider}")
        if name in seen:
            raise source.fault(where, f"a second deployment at {name}")
        seen.add(name)
    if seen and provider not in seen:
        message = f"the list of deployments is the whole list: name {provider} among them, too"
        raise source.fault((*location, "deployments"), message)
    return tuple(
        Site(
            provider=deployment.provider,
            upstream=deployment.upstream or entry.upstream or entry.id,
            weight=deployment.weight,
            limits=None if deployment.limits is None else Limits(**deployment.limits.model_dump()),
        )
        for deployment in entry.deployments
    )
