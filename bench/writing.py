"""Changes for ``workload``: one connection asks for them in turn, with the loop and the vault's thread at work.

``write`` (one value) and ``batch`` (of 100) are through when they are durable. ``rows`` is what is left to be done of
such a batch: its rows, made later, of all batches at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time

from keychain_auth.keychain.vault import Vault, changing

KINDS = {"write": 1, "batch": 100, "rows": 100}
"""How many values each writes."""
COUNTED = 8
"""Requests: so few that no rows are made meanwhile."""
_WARM = 24
_RECEIVED = 65536
_SUCCESS = b'{"type":"RESPONSE","status":"success"'


async def measure(vault: Vault, client: socket.socket, service: str, names: list[str], kind: str) -> None:
    """Ask, print the time of one request. ``names`` are there already."""
    changing._QUIET_SECONDS = 1e6  # under valgrind every pause is a long one
    targets, seconds = names[: KINDS[kind]], client.gettimeout()
    client.setblocking(False)
    for number in range(_WARM):
        await _write(client, service, targets, number)
        if number % COUNTED == 0:
            await vault.place_all()
    await vault.place_all()
    if kind == "rows":
        for number in range(COUNTED):
            await _write(client, service, targets, _WARM + number)
    os.ctermid()
    began = time.perf_counter()
    if kind == "rows":
        await vault.place_all()
    else:
        for number in range(COUNTED):
            await _write(client, service, targets, _WARM + number)
    taken = time.perf_counter() - began
    os.ctermid()
    print(f"{kind}: {taken / COUNTED * 1e6:.2f} µs a request, the client's part included")
    client.settimeout(seconds)


async def _write(client: socket.socket, service: str, targets: list[str], number: int) -> None:
    values = [f"postgres://app:{number:06}@db.staging.example:5432/app"] * len(targets)
    fields = {"type": "REQUEST", "action": "write", "service": service, "targets": targets, "values": values}
    client.sendall(json.dumps(fields).encode() + b"\n")
    answer = await asyncio.get_running_loop().sock_recv(client, _RECEIVED)
    if not answer.startswith(_SUCCESS):
        raise SystemExit(f"not an answer to count: {answer!r}")
