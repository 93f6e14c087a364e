"""The cluster's TLS components, built as a cluster gets them, in a real Envoy."""

import asyncio
import os
import shutil
import ssl
import subprocess
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.cli.stack.certificates import Certificates, ensure_certificates
from tests.integration.edge import Edge, run_edge
from tests.integration.test_edge_tls import get_health, trusting

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl builds the manifests")
K8S = Path(__file__).parents[2] / "k8s"
ANSWER = b"HTTP/1.1 200 OK"
Manifests = dict[tuple[str, str], Any]


def build(folder: Path, component: str) -> Manifests:
    """The local overlay with a component, by kind and name."""
    folder.mkdir()
    root = os.path.relpath(K8S.resolve(), folder.resolve())
    wanted = {"resources": [f"{root}/overlays/local"], "components": [f"{root}/components/{component}"]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(wanted))
    built = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    found = list(yaml.safe_load_all(built.stdout))
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def configuration_of(manifests: Manifests) -> dict[str, str]:
    (name,) = [name for kind, name in manifests if kind == "ConfigMap" and name.startswith("envoy")]
    files: dict[str, str] = manifests["ConfigMap", name]["data"]
    return files


def put(made: Certificates, mount: Path, version: str) -> None:
    """Puts certificates where a pod sees them, in one move, as the kubelet does."""
    folder = mount / version
    folder.mkdir(parents=True)
    certificate, key = made.server
    for name, path in {"tls.crt": certificate, "tls.key": key, "ca.crt": made.authority}.items():
        shutil.copy(path, folder / name)
        if not (mount / name).is_symlink():
            (mount / name).symlink_to(Path("..data") / name)
    (mount / "..new").symlink_to(version)
    (mount / "..new").replace(mount / "..data")


def run(folder: Path, manifests: Manifests, mount: Path) -> AbstractAsyncContextManager[Edge]:
    """An edge with the built transport socket, whose files are in these folders instead of a pod's."""
    files = configuration_of(manifests)
    config = folder / "config"
    config.mkdir()

    def here(text: str) -> str:
        text = text.replace("/etc/quartet/tls", str(mount)).replace("/etc/quartet/client-ca", str(mount))
        return text.replace("/etc/envoy/", f"{config}/")

    for name in files.keys() & {"certificate.yaml", "authority.yaml"}:
        (config / name).write_text(here(files[name]))
    (listener,) = yaml.safe_load(here(files["listener.yaml"]))["resources"]
    socket = listener["filter_chains"][0]["transport_socket"]

    def change(bootstrap: Any) -> None:
        (own,) = bootstrap["static_resources"]["listeners"]
        own["filter_chains"][0]["transport_socket"] = socket

    return run_edge(folder / "home", change=change)


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    return ensure_certificates(tmp_path / "made")


@pytest.fixture(params=["tls", "mtls"])
def manifests(request: pytest.FixtureRequest, tmp_path: Path) -> Manifests:
    return build(tmp_path / "built", request.param)


async def test_the_edge_serves_the_secrets_certificate_and_its_renewal(
    manifests: Manifests, made: Certificates, tmp_path: Path
) -> None:
    asks = "authority.yaml" in configuration_of(manifests)
    put(made, tmp_path / "mount", "first")
    async with run(tmp_path, manifests, tmp_path / "mount") as edge:
        assert (await get_health(edge, trusting(made, shown=made.client)))[0] == ANSWER
        if asks:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await get_health(edge, trusting(made))
        else:
            assert (await get_health(edge, trusting(made)))[0] == ANSWER
        renewed = ensure_certificates(tmp_path / "renewed")
        put(renewed, tmp_path / "mount", "second")
        for _ in range(600):
            try:
                assert (await get_health(edge, trusting(renewed, shown=renewed.client)))[0] == ANSWER
                break
            except (ssl.SSLError, ConnectionError):
                await asyncio.sleep(0.05)
        with pytest.raises(ssl.SSLCertVerificationError):
            await get_health(edge, trusting(made, shown=made.client))


def test_all_else_of_the_edge_is_as_without_tls(manifests: Manifests) -> None:
    (listener,) = yaml.safe_load(configuration_of(manifests)["listener.yaml"])["resources"]
    del listener["filter_chains"][0]["transport_socket"]
    (plain,) = yaml.safe_load((K8S / "base" / "envoy" / "listener.yaml").read_text())["resources"]
    assert listener == plain
    ports = manifests["Service", "envoy"]["spec"]["ports"]
    assert [(port["port"], port["targetPort"]) for port in ports] == [(443, "http")]
    pod = manifests["Deployment", "envoy"]["spec"]["template"]["spec"]
    mounted = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    assert mounted >= {"edge-tls"}
    assert not any(kind == "ConfigMap" and "tls" in name for kind, name in manifests)
