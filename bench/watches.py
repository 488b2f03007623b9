"""A fleet's names: comparing the head of a service at each search, beside a watch of it (docs/adr/0013-etcd.md).

Three members of etcd on loopback, and streams of its JSON gateway as daemons would hold them open. The members' own
processor time and memory count, because one machine plays all the daemons here.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import os
import socket
import ssl
import statistics
import threading
import time
from collections.abc import Iterator

import msgspec
from lab import Lab
from report import Row, Skip

from keychain_auth.keychain.budget import ANSWER_BYTES
from keychain_auth.keychain.etcd.keychain import EtcdKeychain, open_keychain
from support import etcd
from support.etcd import Cluster

_PREFIX = "bench/"
_STREAMS = 40  # times the rounds of the settings, as the two below
_CHANGES = 40
_SEARCHES = 100
_TICKS = os.sysconf("SC_CLK_TCK")


def measure(lab: Lab) -> Iterator[Row]:
    """Memory and processor time are of all three members together."""
    if reason := etcd.missing():
        raise Skip(reason)
    cluster = Cluster(lab.world, lab.world.path("tmp"))
    streams, changes, searches = (lab.settings.rounds * each for each in (_STREAMS, _CHANGES, _SEARCHES))
    writer, searcher = (open_keychain(cluster.settings(prefix=_PREFIX), ANSWER_BYTES) for _ in range(2))
    with asyncio.Runner() as runner:
        runner.run(writer.write("s", [("first", "v")], {}))
        runner.run(searcher.search("s", [], {}))
        unwatched = runner.run(_changed(cluster, writer, changes))
        before = _memory(cluster)
        with _Streams(cluster, streams) as watch:
            held = (_memory(cluster) - before) / streams
            watched = runner.run(_changed(cluster, writer, changes))
            late = runner.run(_late(writer, watch, changes))
        yield Row("a watch that is held open: memory of the members", [held], "KiB")
        yield Row("each watch, for each change: members", [(watched - unwatched) / streams * 1e6], "µs of CPU")
        yield Row("not told yet when the change is acknowledged", [100 * late / changes], "%")
        seconds, cost = runner.run(_searched(cluster, searcher, searches))
        yield Row("a search that compares: middle", [seconds * 1e3], "ms")
        yield Row("a search that compares: members", [cost * 1e6], "µs of CPU")
        runner.run(writer.close())
        runner.run(searcher.close())


class _Streams:
    """Watches of all names, spread over the members. ``told``: how many messages the first of them had."""

    def __init__(self, cluster: Cluster, count: int) -> None:
        context = ssl.create_default_context(cafile=cluster.paths["ca"])
        context.load_cert_chain(cluster.paths["certificate"], cluster.paths["certificate_key"])
        first, beyond = (base64.b64encode(f"{_PREFIX}n{end}".encode()).decode() for end in "/0")
        body = msgspec.json.encode({"create_request": {"key": first, "range_end": beyond}})
        self._open: list[tuple[http.client.HTTPSConnection, threading.Thread]] = []
        self.told = 0
        for number_ in range(count):
            port = cluster.clients[number_ % 3]
            connection = http.client.HTTPSConnection("127.0.0.1", port, context=context)
            connection.request("POST", "/v3/watch", body)
            response = connection.getresponse()
            response.readline()  # it is watched from here on
            reader = threading.Thread(target=self._read, args=(response, number_ == 0), daemon=True)
            reader.start()
            self._open.append((connection, reader))

    def __enter__(self) -> _Streams:
        return self

    def __exit__(self, *error: object) -> None:
        for connection, reader in self._open:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
            reader.join()
            connection.close()

    def _read(self, response: http.client.HTTPResponse, counts: bool) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            while response.readline():
                if counts:
                    self.told += 1


async def _changed(cluster: Cluster, writer: EtcdKeychain, changes: int) -> float:
    """Seconds of the members' processor time for each change."""
    before = _processor(cluster)
    for count in range(changes):
        await writer.write("s", [(f"t{count % 20}", "v")], {})
    return (_processor(cluster) - before) / changes


async def _late(writer: EtcdKeychain, watch: _Streams, changes: int) -> int:
    late = 0
    for count in range(changes):
        before = watch.told
        await writer.write("s", [(f"t{count % 20}", "v")], {})
        late += watch.told == before
        while watch.told == before:
            await asyncio.sleep(0)
    return late


async def _searched(cluster: Cluster, searcher: EtcdKeychain, searches: int) -> tuple[float, float]:
    before, taken = _processor(cluster), []
    for _ in range(searches):
        began = time.perf_counter()
        await searcher.search("s", [], {})
        taken.append(time.perf_counter() - began)
    return statistics.median(taken), (_processor(cluster) - before) / searches


def _memory(cluster: Cluster) -> float:
    """KiB."""
    return sum(_status(process.pid, "VmRSS") for process in cluster.members if process is not None)


def _status(pid: int, field: str) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field))


def _processor(cluster: Cluster) -> float:
    """Seconds."""
    ticks = 0
    for process in cluster.members:
        if process is not None:
            with open(f"/proc/{process.pid}/stat", encoding="ascii") as line:
                ticks += sum(int(word) for word in line.read().rpartition(")")[2].split()[11:13])
    return ticks / _TICKS
