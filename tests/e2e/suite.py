"""A whole running suite: `quartet up` on free ports in a folder of its own."""

import asyncio
import contextlib
import json
import os
import signal
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib import error, request

from services.cli.stack.ports import PARTS, find_free_ports

READY_TIMEOUT_S = 90.0
PROVIDER_VARIABLES = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Where a running suite is reached, the key that opens it, and its processes."""

    url: str
    api_key: str
    home: Path
    process: asyncio.subprocess.Process
    environment: Mapping[str, str]

    @property
    def authority(self) -> Path:
        """Whom to trust, where the suite speaks TLS with a certificate of its own making."""
        return authority_of(self.home)

    def pid(self, name: str) -> int:
        """The process that a part runs in now."""
        record = json.loads((self.home / "run" / f"{name}.json").read_text(encoding="utf-8"))
        return int(record["identity"]["pid"])

    def pids(self) -> dict[str, int]:
        return {path.stem: self.pid(path.stem) for path in (self.home / "run").glob("*.json")}

    async def quartet(self, *arguments: str, stdin: str = "", timeout_s: float = 60.0) -> str:
        """Runs the command line, as from another terminal, and returns its standard output."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.cli", *arguments),
            cwd=ROOT,
            env={
                **self.environment,
                "QUARTET_URL": self.url,
                **({"QUARTET_CA_CERT": str(self.authority)} if self.authority.exists() else {}),
                "QUARTET_HOME": str(self.home),
                "COLUMNS": "200",
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(timeout_s):
            output, said = await process.communicate(stdin.encode())
        assert process.returncode == 0, (output + said).decode()
        return output.decode()


def authority_of(home: Path) -> Path:
    return home / "tls" / "ca.pem"


@contextmanager
def make_home() -> Iterator[Path]:
    """A folder that the database's account can enter."""
    with tempfile.TemporaryDirectory(prefix="quartet-suite-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder) / "home"


@asynccontextmanager
async def run_suite(**variables: str) -> AsyncIterator[Suite]:
    """Runs `quartet up` with these variables and no provider of ours; SIGTERM ends it.

    Raises:
        AssertionError: it did not become ready; the message holds what it printed.
    """
    with make_home() as home:
        async with run_up(home, environment_of(home, **variables)) as suite:
            yield suite


def environment_of(home: Path, **variables: str) -> dict[str, str]:
    """Our environment with a home, with ports that are free now, and no provider of ours."""
    ports = dict(zip(PARTS, find_free_ports(len(PARTS), avoid=set()), strict=True))
    own = {name: value for name, value in os.environ.items() if name not in PROVIDER_VARIABLES}
    return {
        **own,
        **{f"QUARTET_{part.upper()}_PORT": str(port) for part, port in ports.items()},
        "QUARTET_HOME": str(home),
        **variables,
    }


@asynccontextmanager
async def run_up(home: Path, environment: Mapping[str, str]) -> AsyncIterator[Suite]:
    """Runs `quartet up` in a home, as `run_suite` does in one of its own."""
    output = home.parent / "up.log"
    with output.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.cli", "up", "--with-parent", str(os.getpid())),
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
        )
    try:
        scheme = "https" if environment.get("QUARTET_TLS") else "http"
        url = f"{scheme}://127.0.0.1:{environment['QUARTET_EDGE_PORT']}"
        if not await _becomes_ready(url, authority_of(home), process):
            raise AssertionError(output.read_text(encoding="utf-8"))
        key = (home / "dev.key").read_text(encoding="ascii").strip()
        yield Suite(url=url, api_key=key, home=home, process=process, environment=environment)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def _becomes_ready(url: str, authority: Path, process: asyncio.subprocess.Process) -> bool:
    async with asyncio.timeout(READY_TIMEOUT_S):
        while process.returncode is None:
            if await asyncio.to_thread(_is_healthy, url, authority):
                return True
            await asyncio.sleep(0.1)
    return False


def _is_healthy(url: str, authority: Path) -> bool:
    trusted = ssl.create_default_context(cafile=authority if authority.exists() else None)
    try:
        with request.urlopen(f"{url}/healthz", timeout=2.0, context=trusted) as response:
            return bool(response.status == 200)
    except (error.URLError, OSError):
        return False
