"""A router with the vendors' models in three clouds, all of them the double's doors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.kit.binding import Binding
from services.kit.testing import client_of
from services.router.settings import Settings
from services.router.wiring import build
from tests.doubles.provider import ProviderDouble, clouds

AZURE, BEDROCK, VERTEX = "azure/luna", "bedrock/haiku", "vertex/haiku"
MODELS = (AZURE, BEDROCK, VERTEX)

_FIGURES = (
    "context_window: 1000000, max_output_tokens: 8000,"
    " capabilities: [tools, vision, documents, json_schema, reasoning, prompt_caching],"
    " traits: {thinking: budget, efforts: [low, medium, high]}"
)
_MODELS = """
sources:
  own: {title: here, as_of: 2026-11}
default_embedding: local/minilm
models:
  - {id: local/minilm, provider: local, source: own, context_window: 256, max_output_tokens: 0,
     capabilities: [embeddings], dimension: 384}
  - {id: gpt-4.1, provider: openai, source: own, context_window: 100000, max_output_tokens: 8000,
     deployments: [{provider: openai, weight: 1000},
                   {provider: azure-east, upstream: luna-east, weight: 0.001}]}
"""
_ROUTES = """
default: all
baseline: azure/luna
named: {max_output_tokens: 8000, expected_output_tokens: 10}
routes:
  - {name: all, max_output_tokens: 8000, expected_output_tokens: 10, candidates: [azure/luna]}
rules: []
"""
_SERVERS = """
servers:
  - name: azure-east
    kind: azure
    base_url: {url}
    api_version: {azure_version}
    models:
      - {{id: azure/luna, upstream: luna-east, {figures}}}
      - {{id: azure/embedding, upstream: text-embedding-3-small, context_window: 8191, max_output_tokens: 0,
         capabilities: [embeddings], dimension: 1536}}
  - name: bedrock-eu
    kind: bedrock
    base_url: {url}
    region: {aws_region}
    models:
      - {{id: bedrock/haiku, upstream: "eu.anthropic.claude-haiku-5-5-v1:0", {figures}}}
  - name: vertex-eu
    kind: vertex
    base_url: {url}/v1
    region: {google_region}
    project: {google_project}
    models:
      - {{id: vertex/haiku, upstream: claude-haiku-4-5@20251001, {figures}}}
"""
SECRETS = {
    "AZURE_OPENAI_API_KEY": clouds.AZURE_KEY,
    "AWS_ACCESS_KEY_ID": clouds.AWS_ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": clouds.AWS_SECRET_KEY,
    "AWS_SESSION_TOKEN": clouds.AWS_SESSION_TOKEN,
}
"""All but Google's, which holds the double's address."""


def write_config(folder: Path, url: str) -> Path:
    """The clouds' models, the local one, and one that is at its vendor's and in a cloud."""
    servers = _SERVERS.format(
        url=url,
        azure_version=clouds.AZURE_VERSION,
        aws_region=clouds.AWS_REGION,
        google_region=clouds.GOOGLE_REGION,
        google_project=clouds.GOOGLE_PROJECT,
        figures=_FIGURES,
    )
    (folder / "models.yaml").write_text(_MODELS + servers, encoding="utf-8")
    (folder / "routes.yaml").write_text(_ROUTES, encoding="utf-8")
    return folder


@asynccontextmanager
async def open_service(
    folder: Path,
    double: ProviderDouble,
    *,
    secrets: dict[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[Binding]:
    """The router; the key of Google's account comes from a file.

    Args:
        secrets: In place of the right ones.
    """
    write_config(folder, double.url)
    account = folder / "account.json"
    account.write_text(double.clouds.service_account(double.url), encoding="utf-8")
    environment = {"GOOGLE_CREDENTIALS_FILE": str(account), **SECRETS, **(secrets or {})}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        # The local embedding model is of no use here, and slow to start.
        chosen = Settings(config_dir=folder, artifacts_dir=folder, **settings)
        async with build(chosen) as (binding,):
            yield binding


@asynccontextmanager
async def open_router(folder: Path, double: ProviderDouble, **options: Any) -> AsyncIterator[Any]:
    """A client of it; options as of `open_service`."""
    async with (
        open_service(folder, double, **options) as binding,
        client_of("local", binding.service_name, binding.service) as client,
    ):
        yield client
