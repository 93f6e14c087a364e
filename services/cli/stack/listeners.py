"""Who listens on a port of this machine, by Linux's /proc; see proc(5)."""

from __future__ import annotations

from pathlib import Path

_LISTENS = "0A"
"""As include/net/tcp_states.h of Linux numbers the state."""


def describe_listener(port: int) -> str:
    """The program that listens on a TCP port, and who started it; empty where that cannot be seen."""
    sockets = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _inodes(table, port)}
    for process in Path("/proc").glob("[0-9]*"):
        if sockets and not sockets.isdisjoint(_open_files(process)):
            return _describe(process)
    return ""


def _inodes(table: str, port: int) -> list[str]:
    try:
        lines = Path("/proc/net", table).read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [row[9] for row in rows if row[3] == _LISTENS and int(row[1].rpartition(":")[2], 16) == port]


def _open_files(process: Path) -> list[str]:
    try:
        return [_target(link) for link in (process / "fd").iterdir()]
    except OSError:  # not ours to look into
        return []


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:  # closed meanwhile
        return ""


def _describe(process: Path) -> str:
    name, parent = _name_and_parent(process)
    started = ""
    if parent > 1:
        started = f", started by {_name_and_parent(process.with_name(str(parent)))[0]}, process {parent}"
    return f"{name} (process {process.name}{started})"


def _name_and_parent(process: Path) -> tuple[str, int]:
    try:
        stat = (process / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "a program that has ended", 0
    head, _, rest = stat.rpartition(")")
    return head.partition("(")[2], int(rest.split()[1])
