from __future__ import annotations

import fcntl
import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from services.cli.stack.supervisor import StackError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def hold_home(home: Path) -> Iterator[None]:
    """Holds a QUARTET_HOME for one stack; StackError names the process that has it.

    The lock is the kernel's, so that it ends with its holder, however that ends.
    """
    path = home / "lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", errors="replace").strip()
            raise StackError(
                f"A stack already runs in {home} (process {holder}). "
                f"Stop it with Ctrl-C or `kill {holder}`, or set QUARTET_HOME to another folder for a second."
            ) from None
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
        yield
    finally:
        os.close(descriptor)


def keep_secret(path: Path) -> str:
    """The random password kept in a file that only its owner can read, made on first use."""
    if not path.exists():
        unfinished = path.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))
        unfinished.rename(path)
    return path.read_text(encoding="ascii")
