import os
import socket
import subprocess
import sys

from services.cli.stack.listeners import describe_listener
from services.cli.stack.ports import LOOPBACK, find_free_ports

SCRIPT = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
input()
"""


def test_a_listener_is_named_with_its_process_and_the_one_that_started_it() -> None:
    arguments = [sys.executable, "-c", SCRIPT]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = describe_listener(int(process.stdout.readline()))
        process.communicate("\n")
    assert f"(process {process.pid}, started by " in said
    assert f", process {os.getpid()})" in said


def test_a_port_on_which_nobody_listens_has_no_listener() -> None:
    (free,) = find_free_ports(1, avoid=set())
    assert describe_listener(free) == ""
    with socket.socket() as silent:
        silent.bind((LOOPBACK, 0))
        assert describe_listener(silent.getsockname()[1]) == ""
