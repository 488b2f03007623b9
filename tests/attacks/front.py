"""A front of ``keychain-auth launch`` that does one thing differently: a program, run by the tests of launched scripts.

    front.py TRICK SCRIPT      asks the daemon whose agent socket is in KEYCHAIN_AUTH_SOCKET
    front.py TRICK SCRIPT naive     asks a naive launcher there

What it becomes asks for the secret, and prints the answer; so does whatever it smuggles in.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import threading
from typing import Any

from keychain_auth.client import admin
from keychain_auth.client import launch as honest

ASK = b'{"type":"REQUEST","action":"read","service":"aws","targets":["secret"]}\n'
EVIL = f"""
import os, socket
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ["KEYCHAIN_AUTH_SOCKET"])
s.sendall({ASK!r})
print("evil", s.makefile().readline(), flush=True)
"""


def main() -> None:
    trick, script, *naive = sys.argv[1:]
    TRICKS[trick](Naive(script) if naive else Real(script))


class Naive:
    """The same steps with a launcher that only takes the pid."""

    def __init__(self, script: str) -> None:
        self.plan: dict[str, Any] = {
            "program": PYTHON, "argv": [PYTHON, "-I", script], "prelude": "", "variables": {}
        }  # fmt: skip
        self._stream = socket.socket(socket.AF_UNIX)
        self._stream.connect(os.environ["KEYCHAIN_AUTH_SOCKET"])

    def prepare(self, content: bytes | None = None) -> None:
        """Nothing: nobody will look."""

    def go(self) -> None:
        self._stream.sendall(b"launch\n")
        assert self._stream.recv(64) == b"go\n"


class Real:
    """The steps of the honest front."""

    def __init__(self, script: str) -> None:
        self._script = os.path.realpath(script)
        honest._occupy()
        self._daemon = admin.Conversation()
        self.plan = self._daemon.ask("launch", target=self._script)

    def prepare(self, content: bytes | None = None) -> None:
        """Descriptor 3 holds ``content``, or what it should."""
        if content is None:
            with open(self._script, "rb") as file:
                content = self.plan["prelude"].encode() + file.read()
        honest._leave_behind(self._daemon.fileno(), content=content)
        honest.let_trace(self.plan["daemon"])

    def go(self) -> None:
        try:
            self._daemon.ask("launch-ready", target=self._script)
        except RuntimeError as refusal:
            print("refused", refusal, flush=True)
            sys.exit(3)


def become(front: Any, *, argv: list[str] | None = None, **more: str) -> None:
    environment = {**honest._environment(front.plan["variables"]), **more}
    os.execve(front.plan["program"], argv or front.plan["argv"], environment)  # noqa: S606


def nothing(front: Any) -> None:
    front.prepare()
    front.go()
    become(front)


def held(front: Any) -> None:
    """The honest front, but slow."""
    front.prepare()
    print("held", flush=True)
    input()
    front.go()
    become(front)


def other_program(front: Any) -> None:
    front.prepare()
    front.go()
    os.execve(os.environ["EVIL_PROGRAM"], ["evil"], dict(os.environ))  # noqa: S606


def other_arguments(front: Any) -> None:
    front.prepare()
    front.go()
    become(front, argv=[PYTHON, "-I", "-S", "-c", EVIL])


def environment(front: Any) -> None:
    front.prepare()
    front.go()
    become(front, LD_PRELOAD=os.environ["EVIL_LIBRARY"])


def other_script(front: Any) -> None:
    """Descriptor 3 is changed after it was looked at."""
    front.prepare()
    front.go()
    prelude = front.plan["prelude"].encode()
    memory = honest.sealed("script", prelude + EVIL.encode())
    os.dup2(memory, 3, inheritable=True)
    os.close(memory)
    argv = None if prelude else [PYTHON, "-I", "/proc/self/fd/3"]
    become(front, argv=argv)


def other_content(front: Any) -> None:
    front.prepare(front.plan["prelude"].encode() + EVIL.encode())
    front.go()
    become(front, argv=None if front.plan["prelude"] else [PYTHON, "-I", "-c", EVIL])


def connection(front: Any) -> None:
    """Standard input is a connection to the daemon, made by this program; a child waits for the answer."""
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(os.environ["KEYCHAIN_AUTH_SOCKET"])
    stream.sendall(ASK)
    _read_in_a_child(stream)
    os.dup2(stream.fileno(), 0, inheritable=True)
    front.prepare()
    front.go()
    become(front)


def late_connection(front: Any) -> None:
    """The same on a descriptor that is opened after the look."""
    front.prepare()
    front.go()
    stream = socket.socket(socket.AF_UNIX)
    stream.connect(os.environ["KEYCHAIN_AUTH_SOCKET"])
    stream.sendall(ASK)
    _read_in_a_child(stream)
    os.set_inheritable(stream.fileno(), True)
    become(front)


def _read_in_a_child(stream: socket.socket) -> None:
    if os.fork() == 0:
        os.close(1)
        os.dup(2)  # the answer goes to stderr, which outlives the parent
        os.write(1, b"child " + stream.recv(4096))
        os._exit(0)


def second_thread(front: Any) -> None:
    """A thread that is not traced executes."""
    threading.Thread(target=signal.pause, daemon=True).start()
    front.prepare()
    front.go()
    become(front)


def late_thread(front: Any) -> None:
    front.prepare()
    front.go()
    thread = threading.Thread(target=become, args=(front,), kwargs={"argv": [PYTHON, "-I", "-S", "-c", EVIL]})
    thread.start()
    thread.join()


def no_randomisation(front: Any) -> None:
    front.prepare()
    front.go()
    ctypes.CDLL(None).personality(0x0040000)  # ADDR_NO_RANDOMIZE
    become(front)


def twice(front: Any) -> None:
    """Another exec in between: the first one is what the daemon sees."""
    front.prepare()
    front.go()
    code = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
    become(front, argv=[PYTHON, "-I", "-S", "-c", code, PYTHON, "-I", "-S", "-c", EVIL])


PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
TRICKS = {
    each.__name__: each
    for each in (
        nothing, held, other_program, other_arguments, environment, other_script, other_content, connection,
        late_connection, second_thread, late_thread, no_randomisation, twice,
    )
}  # fmt: skip

if __name__ == "__main__":
    main()
