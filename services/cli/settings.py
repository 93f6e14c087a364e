from __future__ import annotations

import os
import re
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from services.kit.channel import Credentials
from services.kit.settings import KitSettings, Port, SettingsError, has_sound_port

SERVICES = ("router", "pipeline", "orchestrator", "gateway")
"""The four services, callees before callers: the order in which they start."""


class StackSettings(KitSettings):
    """What `quartet up` reads from the environment; a port of 0 means any free one.

    Where `DATABASE_URL` or `REDIS_URL` is set, that server is used and none is started.
    """

    model_config = SettingsConfigDict(env_prefix="QUARTET_")

    home: Path = Field(default=Path(".quartet"), validate_default=True)
    edge_host: str = "127.0.0.1"
    edge_port: Port = 8080
    envoy_admin_port: Port = 9901
    client_rps: int = Field(default=1000, ge=1)
    """Requests per second that one client may send before Envoy answers 429."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """The origins whose pages may call from a browser, as `https://app.example.com`; none by default."""
    tls: bool = False
    """Whether the edge speaks TLS; with no `tls_cert` by a pair of its own making, for development."""
    tls_cert: Path | None = None
    """The edge's certificate, with those between it and its authority (PEM)."""
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    """The authorities of clients' certificates (PEM): where set, nobody gets in without one."""
    gateway_port: Port = 50051
    router_port: Port = 50052
    pipeline_port: Port = 50053
    orchestrator_port: Port = 50054
    postgres_port: Port = 50055
    redis_port: Port = 50056
    colocate: Annotated[tuple[str, ...], NoDecode] = ()
    """The services that share one process, as `gateway,router`."""
    database_user: str = ""
    """As root only: the account PostgreSQL runs as; empty: `quartet`, else `postgres`, else `nobody`."""
    database_root: Path = Path("/var/lib/quartet")
    """As root only: where the database lives when its account cannot enter `home`."""
    redis_memory_mib: int = Field(default=256, ge=16)
    ready_timeout_s: float = Field(default=60.0, gt=0)
    """How long one part may take to become healthy before the start is given up."""

    @field_validator("edge_host")
    @classmethod
    def _check_edge_host(cls, host: str) -> str:
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise ValueError("write an IPv4 address: 127.0.0.1, or 0.0.0.0 for all of this machine") from None

    @field_validator("home", "database_root")
    @classmethod
    def _make_absolute(cls, path: Path) -> Path:
        return path.expanduser().absolute()

    @field_validator("tls_cert", "tls_key", "tls_client_ca")
    @classmethod
    def _make_given_absolute(cls, path: Path | None) -> Path | None:
        return path and path.expanduser().absolute()

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("QUARTET_TLS_CERT and QUARTET_TLS_KEY belong together: set both, or neither")
        if (self.tls_cert or self.tls_client_ca) and not self.tls:
            raise ValueError("certificates are given without TLS: set QUARTET_TLS=1, or `quartet up --tls`")
        return self

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not re.fullmatch(r"https?://[^/\s*]+", origin):
                raise ValueError(f"{origin} is no origin: write https://host or https://host:port")
        return origins

    @field_validator("colocate", "cors_origins", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("colocate")
    @classmethod
    def _check_colocation(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        check_names(names)
        return names

    def port_of(self, name: str) -> int:
        """The port setting of a part: a service, `edge`, `envoy_admin`, `postgres` or `redis`."""
        return int(getattr(self, f"{name}_port"))


def check_names(names: tuple[str, ...]) -> None:
    """Raises ValueError for a set of services that cannot share a process."""
    unknown = [name for name in names if name not in SERVICES]
    if unknown:
        raise ValueError(f"unknown service {', '.join(unknown)}: choose among {', '.join(sorted(SERVICES))}")
    if len(set(names)) != len(names):
        raise ValueError("a service is named twice")
    if {"pipeline", "orchestrator"} <= set(names):
        raise ValueError(
            "pipeline and orchestrator cannot share a process: "
            "each needs the one DBOS runtime that a process can have"
        )


def port_variable(name: str) -> str:
    """The environment variable that moves a part to another port."""
    return f"QUARTET_{name.upper()}_PORT"


def inherited_environment() -> dict[str, str]:
    """The environment that child processes start from: ours, so that provider variables pass through."""
    return dict(os.environ)


def bare_environment() -> dict[str, str]:
    """What PostgreSQL, Redis and Envoy get of our environment: they have no need for provider keys."""
    return {name: os.environ[name] for name in ("PATH", "LANG", "TZ", "TMPDIR") if name in os.environ}


class ClientSettings(KitSettings):
    """What the commands that talk to a suite read from the environment."""

    model_config = SettingsConfigDict(env_prefix="QUARTET_")

    url: str = "http://127.0.0.1:8080"
    """The edge; https speaks TLS."""
    api_key: str = Field(default="", repr=False)
    home: Path = Path(".quartet")
    ca_cert: Path | None = None
    """The authorities (PEM) that an https edge's certificate must come from, instead of the system's."""
    client_cert: Path | None = None
    """The certificate to show to an edge that asks for one (PEM), and its key."""
    client_key: Path | None = None

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        if not re.fullmatch(r"https?://[^/\s]+/?", url):
            raise ValueError("give http://host:port or https://host:port, without a path")
        if not has_sound_port(url):
            raise ValueError("the port must be a number from 0 to 65535")
        return url.rstrip("/")

    @property
    def key_file(self) -> Path:
        """Where `quartet up` leaves its development key."""
        return self.home.expanduser() / "dev.key"

    def read_credentials(self) -> Credentials:
        """What a TLS connection needs; raises SettingsError for a file that cannot be read."""
        if (self.client_cert is None) != (self.client_key is None):
            raise SettingsError(
                "QUARTET_CLIENT_CERT and QUARTET_CLIENT_KEY belong together: set both, or neither"
            )
        return Credentials(
            authorities=_read(self.ca_cert), certificate=_read(self.client_cert), key=_read(self.client_key)
        )

    def read_key(self) -> str:
        """The key to send: QUARTET_API_KEY, else that of `quartet up`; empty when there is neither."""
        if self.api_key:
            return self.api_key
        try:
            return self.key_file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"cannot read the key in {self.key_file}: {error}") from None


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
