"""What each rule of identity costs, one at a time, in one process: run by ``identity.py`` as the user of the daemon.

Usage: rules.py SOCKET ROUNDS CALLS PROGRAM      PROGRAM connects to SOCKET and stays; prints one JSON object: rule to
microseconds of processor time a call, one figure for each round.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from keychain_auth.identity.attest import LOCAL_FILESYSTEMS
from keychain_auth.platform.linux.descriptors import holding
from keychain_auth.platform.linux.listener import UnixListener
from keychain_auth.platform.linux.looks import place_of
from keychain_auth.platform.linux.peer import Host
from keychain_auth.platform.linux.peercred import open_peer
from keychain_auth.platform.linux.procfs import own_surroundings


def main() -> None:
    """See above."""
    path, rounds, calls, program = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    filesystems = LOCAL_FILESYSTEMS | {"overlay", "tmpfs"}
    listener = UnixListener(path, Host(filesystems, own_surroundings()[0].mount))
    client = subprocess.Popen([program, path], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        select.select([listener], [], [])
        channel = listener.accept()
        print(json.dumps(measure(channel, rounds, calls)))
        channel.close()
    finally:
        client.kill()
        client.wait()
        listener.close()


def measure(channel: Any, rounds: int, calls: int) -> dict[str, list[float]]:
    """The rules in the order in which a look applies them; the private parts of a look are what is measured here."""
    look = channel.peer()
    process, host = look._process, look._host
    inode = os.fstat(channel.fileno()).st_ino
    theirs = host.diagnosis.peer_inode(inode)
    executable, mount = look._executable()
    work: dict[str, Callable[[], Any]] = {
        "peer: who connected, pinned": lambda: open_peer(channel._socket, look.pid).close(),
        "exec id (twice in a look, then cheaper)": process.exec_id,
        "namespaces": process.namespaces,
        "executable and its filesystem": look._executable,
        "file at the registered path": lambda: place_of(executable.path, False),
        "descriptor: the peer's inode": lambda: host.diagnosis.peer_inode(inode),
        "descriptor: held, close-on-exec": lambda: holding(process.folder, theirs, 256),
        "tracer and seccomp filters": process.status,
        "mapped code": lambda: host.mappings.code_of(
            process.folder, mount, executable.key.inode, executable.path, patient=False
        ),
        "one look, all of these": look.facts,
        "strict mode, beside that": look.strict_facts,
        "each message: the same file": look.runs_same_file,
    }
    for call in work.values():
        call()
    figures: dict[str, list[float]] = {rule: [] for rule in work}
    for _ in range(rounds):
        for rule, call in work.items():
            count = max(1, calls // 50) if rule.startswith("strict") else calls
            began = time.process_time()
            for _ in range(count):
                call()
            figures[rule].append((time.process_time() - began) * 1e6 / count)
    return figures


main()
