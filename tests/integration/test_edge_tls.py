"""TLS and mTLS at the edge, with the clients that people use."""

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic
from anthropic import DefaultAsyncHttpxClient as AnthropicHttp
from openai import AsyncOpenAI
from openai import DefaultAsyncHttpxClient as OpenAIHttp

from quartet.gateway.v1 import gateway_pb2
from services.cli.client import connect
from services.cli.settings import ClientSettings
from services.cli.stack.certificates import Certificates, ensure_certificates
from services.kit.errors import Unavailable
from tests.integration.edge import Edge, run_edge


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return ensure_certificates(tmp_path_factory.mktemp("certificates"))


@pytest_asyncio.fixture(scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory, made: Certificates) -> AsyncIterator[Edge]:
    async with run_edge(tmp_path_factory.mktemp("tls") / "home", **served_by(made)) as running:
        yield running


@pytest_asyncio.fixture(scope="module")
async def mutual(tmp_path_factory: pytest.TempPathFactory, made: Certificates) -> AsyncIterator[Edge]:
    """An edge that asks every client for a certificate."""
    home = tmp_path_factory.mktemp("mtls") / "home"
    async with run_edge(home, **served_by(made), tls_client_ca=made.authority) as running:
        yield running


def served_by(made: Certificates) -> dict[str, Any]:
    certificate, key = made.server
    return {"tls": True, "tls_cert": certificate, "tls_key": key}


def trusting(
    made: Certificates, *, shown: tuple[Path, Path] | None = None, alpn: str = "http/1.1"
) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=made.authority)
    # What newer versions of Python ask for by themselves.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols([alpn])
    if shown is not None:
        context.load_cert_chain(*shown)
    return context


async def get_health(edge: Edge, context: ssl.SSLContext) -> tuple[bytes, str | None]:
    """The status line and the protocol agreed on; raises ssl.SSLError or ConnectionError for a refusal."""
    reader, writer = await asyncio.open_connection("127.0.0.1", edge.port, ssl=context)
    try:
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n")
        line = await reader.readline()
        if not line:
            raise ConnectionResetError
        return line.strip(), writer.get_extra_info("ssl_object").selected_alpn_protocol()
    finally:
        writer.close()


async def list_models(edge: Edge, **files: Path) -> list[str]:
    """Over gRPC, as the `quartet` command does."""
    settings = ClientSettings.model_validate({"url": edge.url, "api_key": "qk_x", **files})
    async with connect(settings) as client:
        answer = await client.gateway.list_models(gateway_pb2.ListModelsRequest(), client.call(10))
        return [model.id for model in answer.models]


def shown_files(made: Certificates) -> dict[str, Path]:
    certificate, key = made.client
    return {"ca_cert": made.authority, "client_cert": certificate, "client_key": key}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_http_1_is_served(edge: Edge, made: Certificates, version: ssl.TLSVersion) -> None:
    context = trusting(made, alpn="http/1.1")
    context.minimum_version = context.maximum_version = version
    assert await get_health(edge, context) == (b"HTTP/1.1 200 OK", "http/1.1")


async def test_http_2_is_preferred(edge: Edge, made: Certificates) -> None:
    context = trusting(made)
    context.set_alpn_protocols(["http/1.1", "h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", edge.port, ssl=context)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    writer.close()


async def test_tls_before_1_2_is_not(edge: Edge, made: Certificates) -> None:
    context = trusting(made)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        await get_health(edge, context)


async def test_plain_text_is_not_answered(edge: Edge) -> None:
    assert not await edge.send(b"GET /healthz HTTP/1.1\r\nhost: edge\r\n\r\n")


async def test_a_client_that_does_not_know_the_authority_goes_away(edge: Edge) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await get_health(edge, ssl.create_default_context())


async def test_the_stock_sdks_are_served(edge: Edge, made: Certificates) -> None:
    http = OpenAIHttp(verify=trusting(made))
    async with AsyncOpenAI(base_url=f"{edge.url}/v1", api_key="qk_x", http_client=http) as openai:
        assert [model.id for model in (await openai.models.list()).data] == ["local/extractive"]
    http = AnthropicHttp(verify=trusting(made))
    async with AsyncAnthropic(base_url=edge.url, api_key="qk_x", http_client=http) as anthropic:
        assert [model.id for model in (await anthropic.models.list()).data] == ["local/extractive"]


async def test_grpc_is_served_and_the_quartet_command_with_it(edge: Edge, made: Certificates) -> None:
    assert await list_models(edge, ca_cert=made.authority) == ["local/extractive"]
    with pytest.raises(Unavailable):
        await list_models(edge)


async def test_with_mtls_only_who_shows_a_certificate_gets_in(mutual: Edge, made: Certificates) -> None:
    assert (await get_health(mutual, trusting(made, shown=made.client)))[0] == b"HTTP/1.1 200 OK"
    assert await list_models(mutual, **shown_files(made)) == ["local/extractive"]
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await get_health(mutual, trusting(made))
    with pytest.raises(Unavailable):
        await list_models(mutual, ca_cert=made.authority)


async def test_with_mtls_another_authoritys_certificate_does_not_help(
    mutual: Edge, made: Certificates, tmp_path: Path
) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await get_health(mutual, trusting(made, shown=ensure_certificates(tmp_path).client))


async def test_with_mtls_the_edges_own_certificate_is_none_for_a_client(
    mutual: Edge, made: Certificates
) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await get_health(mutual, trusting(made, shown=made.server))


async def test_a_handshake_that_is_never_finished_is_ended(
    tmp_path_factory: pytest.TempPathFactory, made: Certificates
) -> None:
    def hurry(bootstrap: Any) -> None:
        (listener,) = bootstrap["static_resources"]["listeners"]
        assert listener["filter_chains"][0]["transport_socket_connect_timeout"] == "10s"
        listener["filter_chains"][0]["transport_socket_connect_timeout"] = "0.5s"

    home = tmp_path_factory.mktemp("handshake") / "home"
    async with run_edge(home, change=hurry, **served_by(made)) as edge:
        # The first bytes of a ClientHello.
        assert not await edge.send(b"\x16\x03\x01\x02\x00\x01")
