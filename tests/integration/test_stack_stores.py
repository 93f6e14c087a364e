import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from services.cli.settings import StackSettings
from services.cli.stack.cluster import choose_place, ensure_cluster, find_binaries, reach_binaries
from services.cli.stack.process import Identity


@dataclass(frozen=True, kw_only=True)
class Home:
    """A QUARTET_HOME that pytest keeps to ourselves: as root, the database's account cannot enter it."""

    path: Path
    database_root: Path

    def start(self) -> "Stores":
        environment = {
            **os.environ,
            "QUARTET_POSTGRES_PORT": "0",
            "QUARTET_REDIS_PORT": "0",
            "QUARTET_HOME": str(self.path),
            "QUARTET_DATABASE_ROOT": str(self.database_root),
        }
        environment.pop("DATABASE_URL", None)
        environment.pop("REDIS_URL", None)
        script = str(Path(__file__).with_name("stores.py"))
        process = subprocess.Popen(
            [sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True
        )
        return Stores(process=process, run=self.path / "run")


class Stores:
    """A process that runs PostgreSQL and Redis."""

    def __init__(self, *, process: subprocess.Popen[str], run: Path) -> None:
        self.process = process
        assert process.stdout is not None
        urls = json.loads(process.stdout.readline() or "{}")
        assert urls, "the stores did not start"
        self.database_url: str = urls["database_url"]
        self.redis_url: str = urls["redis_url"]
        records = [json.loads(path.read_text()) for path in run.iterdir()]
        self.children = [Identity(**record["identity"]) for record in records]

    def end(self, *, kill: bool) -> None:
        self.process.kill() if kill else self.process.terminate()
        self.process.communicate(timeout=30)


def wait_until_gone(children: list[Identity]) -> None:
    end = time.monotonic() + 15
    while any(child.is_alive() for child in children):
        assert time.monotonic() < end, "a child is left behind"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    root = Path(tempfile.mkdtemp(prefix="quartet-test-"))
    root.chmod(0o755)
    yield Home(path=tmp_path_factory.mktemp("stores") / "home", database_root=root)
    shutil.rmtree(root)


def test_stores_survive_a_hard_kill_of_their_supervisor_and_leave_nothing_behind(home: Home) -> None:
    first = home.start()
    try:
        with psycopg.connect(first.database_url) as connection:
            connection.execute("create extension vector")
            connection.execute("create table kept (embedding halfvec(3))")
            connection.execute("insert into kept values ('[1,2,3]')")
            connection.commit()
            connections = connection.execute("show max_connections").fetchone()
        assert connections == ("200",)
        with redis.Redis.from_url(first.redis_url) as client:
            client.set("kept", "yes")
            time.sleep(1.1)  # the bound on what a crash may cost
    finally:
        first.end(kill=True)
    second = home.start()
    try:
        assert not any(child.is_alive() for child in first.children)
        with psycopg.connect(second.database_url) as connection:
            nearest = connection.execute("select embedding <=> '[1,2,3]' from kept").fetchone()
        assert nearest == (0.0,)
        with redis.Redis.from_url(second.redis_url) as client:
            assert client.get("kept") == b"yes"
    finally:
        second.end(kill=False)
    assert second.process.returncode == 0
    assert len(second.children) == 2
    wait_until_gone(second.children)
    assert list((home.path / "run").iterdir()) == []


def test_a_server_that_is_killed_hard_starts_again_with_its_data(home: Home) -> None:
    stores = home.start()
    try:
        with psycopg.connect(stores.database_url, autocommit=True) as connection:
            connection.execute("create table kept_too as select 1 as n")
        record = json.loads((home.path / "run" / "postgres.json").read_text())
        os.kill(record["identity"]["pid"], 9)
        rows = None
        end = time.monotonic() + 30
        while rows is None:
            assert time.monotonic() < end, "the server did not come back"
            try:
                with psycopg.connect(stores.database_url) as connection:
                    rows = connection.execute("select n from kept_too").fetchall()
            except psycopg.OperationalError:
                time.sleep(0.1)
        assert rows == [(1,)]
    finally:
        stores.end(kill=False)


def test_a_password_is_needed(database_url: str, redis_url: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(with_password(database_url, "guess"))
    anonymous = with_password(redis_url, "")
    with redis.Redis.from_url(anonymous) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def with_password(url: str, password: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}:{password}@{parts.hostname}:{parts.port}").geturl()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the database as another account")
def test_binaries_that_the_account_cannot_reach_are_copied_for_it(home: Home, tmp_path: Path) -> None:
    wheel = find_binaries()
    package = wheel.parent.parent
    hidden = tmp_path / package.name / wheel.parent.name
    hidden.parent.mkdir()
    hidden.symlink_to(wheel.parent)  # in a folder of pytest's, which only we may enter
    (tmp_path / f"{package.name}.libs").symlink_to(package.with_name(f"{package.name}.libs"))
    settings = StackSettings.model_validate({"home": tmp_path, "database_root": home.database_root})
    place = choose_place(settings)
    reached = reach_binaries(hidden / "bin", place)
    assert reached.is_relative_to(home.database_root)
    ensure_cluster(reached, place, "secret")
    assert (place.data / "PG_VERSION").read_text() == "18\n"
