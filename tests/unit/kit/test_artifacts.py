import hashlib
import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from services.kit import artifacts
from services.kit.artifacts import Artifact, ArtifactError, ArtifactFile

PROGRAM = b"#!/bin/sh\necho served\n"
WHEEL = "parcel-1.0-py3-none-any.whl"


def write_wheel(folder: Path, program: bytes = PROGRAM) -> str:
    """Write a wheel that holds one program, and return its sha256."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr("parcel/server", program)
        archive.writestr(
            "parcel-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: parcel\nVersion: 1.0\n"
        )
        archive.writestr("parcel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("parcel-1.0.dist-info/RECORD", "")
    return hashlib.sha256((folder / WHEEL).read_bytes()).hexdigest()


def parcel(content: bytes = PROGRAM, member: str = "parcel/server") -> Artifact:
    file = ArtifactFile(member=member, name="server", sha256=hashlib.sha256(content).hexdigest(), mode=0o755)
    return Artifact(name="parcel", distribution="parcel", files=(file,))


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the package index."""
    folder = tmp_path / "wheels"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def lock(tmp_path: Path, wheels: Path) -> Path:
    path = tmp_path / "artifacts.lock"
    path.write_text(f"# pinned\nparcel==1.0 --hash=sha256:{write_wheel(wheels)}\n")
    return path


def left_behind(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file() or path.name.startswith("."))


def test_a_program_is_taken_out_of_its_wheel_and_runs(tmp_path: Path, lock: Path) -> None:
    artifacts.provide(parcel(), tmp_path / "to", lock=lock)
    server = tmp_path / "to" / "parcel" / "server"
    assert subprocess.run([server], capture_output=True, check=True).stdout == b"served\n"
    assert left_behind(tmp_path / "to") == ["server"]


def test_what_is_there_and_right_needs_no_index(
    tmp_path: Path, lock: Path, wheels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifacts.provide(parcel(), tmp_path / "to", lock=lock)
    (wheels / WHEEL).unlink()
    artifacts.provide(parcel(), tmp_path / "to", lock=lock)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["downloading", "ready", "already"]


@pytest.mark.parametrize("damage", ["content", "mode", "absence"])
def test_what_is_damaged_is_fetched_again(tmp_path: Path, lock: Path, damage: str) -> None:
    artifacts.provide(parcel(), tmp_path / "to", lock=lock)
    server = tmp_path / "to" / "parcel" / "server"
    if damage == "content":
        server.write_bytes(b"half")
    elif damage == "mode":
        server.chmod(0o644)
    else:
        server.unlink()
    artifacts.provide(parcel(), tmp_path / "to", lock=lock)
    assert server.read_bytes() == PROGRAM
    assert os.access(server, os.X_OK)


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path, lock: Path, wheels: Path) -> None:
    write_wheel(wheels, b"#!/bin/sh\necho something else\n")
    with pytest.raises(ArtifactError, match=r"hash is not the one in config/artifacts\.lock"):
        artifacts.provide(parcel(), tmp_path / "to", lock=lock)
    assert left_behind(tmp_path / "to") == []


def test_a_file_with_another_hash_is_refused_and_keeps_the_old_one(tmp_path: Path, lock: Path) -> None:
    old = tmp_path / "to" / "parcel" / "server"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    with pytest.raises(ArtifactError, match="has not the sha256"):
        artifacts.provide(parcel(b"expected"), tmp_path / "to", lock=lock)
    assert old.read_bytes() == b"old"
    assert left_behind(tmp_path / "to") == ["server"]


def test_a_wheel_without_the_file_is_named(tmp_path: Path, lock: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no parcel/other"):
        artifacts.provide(parcel(member="parcel/other"), tmp_path / "to", lock=lock)


def test_an_index_without_the_wheel_gives_the_remedy(tmp_path: Path, lock: Path, wheels: Path) -> None:
    (wheels / WHEEL).unlink()
    with pytest.raises(ArtifactError, match=r"(?s)could not download parcel==1\.0.*PIP_FIND_LINKS"):
        artifacts.provide(parcel(), tmp_path / "to", lock=lock)


def test_a_dead_network_gives_the_remedy(
    tmp_path: Path, lock: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (wheels / WHEEL).unlink()
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{taken.getsockname()[1]}/simple")
        with pytest.raises(ArtifactError, match="Check the network"):
            artifacts.provide(parcel(), tmp_path / "to", lock=lock)


def test_a_distribution_that_is_not_pinned_is_refused(tmp_path: Path, lock: Path) -> None:
    lock.write_text("parcel-of-another==1.0 --hash=sha256:00\n")
    with pytest.raises(ArtifactError, match="does not pin parcel"):
        artifacts.provide(parcel(), tmp_path / "to", lock=lock)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, lock: Path) -> None:
    (tmp_path / "to").write_text("a file is in the way")
    with pytest.raises(ArtifactError, match="Choose another folder with --to"):
        artifacts.provide(parcel(), tmp_path / "to", lock=lock)


def test_every_artifact_is_pinned_in_the_shipped_lock(tmp_path: Path, wheels: Path) -> None:
    wheels.mkdir()
    for name in artifacts.ARTIFACTS:
        with pytest.raises(ArtifactError, match="could not download"):  # so its pin was found
            artifacts.ensure([name], tmp_path / "to")


def test_an_unknown_name_is_answered_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert artifacts.main(["postgres"]) == 1
    assert "Name one of: minilm, redis" in capsys.readouterr().err


def test_the_folder_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTET_ARTIFACTS_DIR", str(tmp_path))
    assert artifacts.minilm_directory() == tmp_path / "minilm"
    assert artifacts.redis_server_path() == tmp_path / "redis" / "redis-server"
    monkeypatch.delenv("QUARTET_ARTIFACTS_DIR")
    monkeypatch.chdir(tmp_path)
    assert artifacts.minilm_directory() == tmp_path / "build" / "artifacts" / "minilm"


def test_reading_trusts_no_file_unseen(tmp_path: Path) -> None:
    home = tmp_path / "parcel"
    with pytest.raises(ArtifactError, match=r"artifacts parcel --to"):
        artifacts.read_verified(parcel(), "server", home)
    home.mkdir()
    (home / "server").write_bytes(b"other")
    with pytest.raises(ArtifactError, match="has not the sha256"):
        artifacts.read_verified(parcel(), "server", home)
    (home / "server").write_bytes(PROGRAM)
    assert artifacts.read_verified(parcel(), "server", home) == PROGRAM


def test_it_runs_on_the_standard_library_alone() -> None:
    code = (
        "import sys, services.kit.artifacts;"
        "print([n for n, m in sys.modules.items() if 'site-packages' in (getattr(m, '__file__', '') or '')])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert [name for name in ("grpc", "pydantic", "numpy", "orjson") if f"'{name}'" in loaded] == []
