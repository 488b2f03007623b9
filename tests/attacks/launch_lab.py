"""What the tests of launched scripts share: scripts that ask for the secret, and the commands that start them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence

from attacks.naive import SECRET
from support.process import Process
from support.world import World

ASK = '{"type":"REQUEST","action":"read","service":"aws","targets":["secret"]}'
_ASKING = """
import os, socket
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ["KEYCHAIN_AUTH_SOCKET"])
s.sendall(b'{ask}' + bytes([10]))
print("{who}", s.makefile().readline(), flush=True)
"""
ASKING = _ASKING.format(ask=ASK, who="honest")
EVIL = _ASKING.format(ask=ASK, who="evil")
NODE = "/usr/bin/node"
_NODE_ASKING = """
const s = require("net").connect(process.env.KEYCHAIN_AUTH_SOCKET);
s.write('{ask}' + String.fromCharCode(10));
s.on("data", (answer) => {{ console.log("{who}", String(answer)); s.end(); }});
"""
NODE_ASKING = _NODE_ASKING.format(ask=ASK, who="honest")
NODE_EVIL = _NODE_ASKING.format(ask=ASK, who="evil")

# What a script says once it runs, and then waits for.
STARTED = "print('started', flush=True)\ninput()\n"


def registered(world: World, path: str, *options: str, interpreter: str = "") -> str:
    """Register the script and let it use ``aws``; returns its path."""
    words = ("register", "--script", path, "--interpreter", interpreter or world.installation.interpreter)
    done = world.cli(*words, *options)
    assert done.returncode == 0, done.stderr
    assert world.cli("authorize", path, "aws").returncode == 0
    return path


def launch(
    world: World, script: str, *arguments: str, env: Mapping[str, str] | None = None, cwd: str = "/",
    before: Sequence[str] = (),
) -> Process:  # fmt: skip
    """The command ``keychain-auth launch``. ``before``: words that run it."""
    words = [*before, world.python, "-m", "keychain_auth.cli.main", "launch", script, *arguments]
    env = {"KEYCHAIN_AUTH_SOCKET": world.socket, **(env or {})}
    own = dict(world.installation.env).get("PYTHONPATH")
    if own and "PYTHONPATH" in env:  # of the one who is to be misled, first; the command still needs its own
        env["PYTHONPATH"] += os.pathsep + own
    return world.spawn(words, env=env, cwd=cwd)


def declared(
    world: World, script: str, *arguments: str, env: Mapping[str, str] | None = None, interpreter: str = ""
) -> Process:
    """The script as anybody starts it."""
    words = [interpreter or world.installation.interpreter, script, *arguments]
    return world.spawn(words, env={"KEYCHAIN_AUTH_SOCKET": world.socket, "PYTHONPATH": None, **(env or {})})


def output(process: Process) -> str:
    """All that it says, once it has ended; standard input is at its end."""
    process.end_input()
    process.wait()
    return process.out.text() + process.err.text()


def forged_bytecode(source: str, code: str) -> tuple[str, bytes]:
    """Where the bytecode of ``source`` would lie, and one that belongs to it by time and size but runs ``code``."""
    import marshal

    about = os.stat(source)
    head = importlib.util.MAGIC_NUMBER + bytes(4)
    head += (int(about.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little") + about.st_size.to_bytes(4, "little")
    return importlib.util.cache_from_source(source), head + marshal.dumps(compile(code, source, "exec"))


def secret_by(said: str) -> set[str]:
    """Who got the secret."""
    return {line.split()[0] for line in said.splitlines() if SECRET in line}
