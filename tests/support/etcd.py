"""Three members of etcd on loopback, with certificates of their own making, as processes of the user under test.

``missing()`` says what this machine lacks for it; tests skip with that text.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import http.client
import ipaddress
import json
import os
import random
import shutil
import signal
import socket
import ssl
import time
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keychain_auth.keychain.budget import ANSWER_BYTES
from keychain_auth.keychain.etcd.keychain import EtcdKeychain, open_keychain
from keychain_auth.keychain.kinds import EtcdSettings
from support.lines import PATIENCE, until
from support.process import Process
from support.world import World


def missing() -> str:
    """What to install before there can be a cluster here; empty if it is there."""
    return "" if shutil.which("etcd") else "needs etcd: apt-get install etcd-server"


class Cluster:
    """``folder``: where the certificates of clients are put, owned by whoever runs the tests."""

    def __init__(self, world: World, folder: str) -> None:
        self.world = world
        self.folder = folder
        self.authority = Authority()
        certificate, key = self.authority.issue("member")
        self._files = {name: world.write(f"etcd/{name}", content) for name, content in (
            ("ca.pem", self.authority.pem), ("member.pem", certificate), ("member.key", key)
        )}  # fmt: skip
        self.fleet_key = os.urandom(32).hex()
        self.paths = self.client_files(folder)
        ports = free_ports(6)
        self.clients, self.peers = ports[:3], ports[3:]
        self.endpoints = tuple(f"https://127.0.0.1:{port}" for port in self.clients)
        self.members: list[Process | None] = [None, None, None]
        self._context = ssl.create_default_context(cafile=self.paths["ca"])
        self._context.load_cert_chain(self.paths["certificate"], self.paths["certificate_key"])
        for number in range(3):
            self.start(number)
        self.wait()

    def client_files(self, folder: str) -> dict[str, str]:
        """What a client needs, in ``folder``; by the name of its setting."""
        certificate, key = self.authority.issue("client")
        found = {}
        for name, content in (
            ("ca", self.authority.pem), ("certificate", certificate), ("certificate_key", key),
            ("key_file", self.fleet_key.encode()),
        ):  # fmt: skip
            found[name] = os.path.join(folder, name)
            with open(found[name], "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(content)
        return found

    def settings(self, **changes: Any) -> EtcdSettings:
        """Of a keychain on this cluster; one that waits for members of a busy machine, if ``changes`` does not say."""
        patient = {"seconds": 30.0, "attempt_seconds": 10.0, "rest_seconds": 0.2}
        return EtcdSettings(**{"endpoints": self.endpoints, **patient, **self.paths, **changes})

    def settle(self, world: World, prefix: str, more: str = "") -> None:
        """The settings of a daemon in ``world`` whose services ``fleet…`` lie here; ``more``: lines for the store."""
        lines = [f"prefix = {json.dumps(prefix)}", f"endpoints = {json.dumps(self.endpoints)}", more]
        for name, path in self.paths.items():
            with open(path, "rb") as file:
                lines.append(f'{name} = "{world.write(f"fleet/{name}", file.read())}"')
        world.write_settings(
            '[keychains]\nroutes = { "fleet*" = "shared" }\n[keychains.stores.shared]\nkind = "etcd"\n'
            + "\n".join(lines) + "\n"
        )  # fmt: skip

    def machine(self, prefix: str, **changes: Any) -> EtcdKeychain:
        """A keychain as one more machine has it; ``changes``: of its settings."""
        return open_keychain(self.settings(prefix=prefix, **changes), ANSWER_BYTES)

    # --- members ----------------------------------------------------------------------------------

    def start(self, number: int) -> None:
        """Start a member, on the data that it had."""
        everybody = ",".join(f"m{each}=https://127.0.0.1:{port}" for each, port in enumerate(self.peers))
        client, peer = f"https://127.0.0.1:{self.clients[number]}", f"https://127.0.0.1:{self.peers[number]}"
        words = [
            "etcd", f"--name=m{number}", f"--data-dir={self.world.path('etcd', f'data{number}')}",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}", f"--initial-cluster={everybody}", "--initial-cluster-state=new",
            "--heartbeat-interval=50", "--election-timeout=500", "--client-cert-auth", "--peer-client-cert-auth",
            "--logger=zap", "--log-level=error", "--auto-compaction-retention=1h", "--enable-v2=false",
        ]  # fmt: skip
        for side in ("", "peer-"):
            for option, name in (("cert", "member.pem"), ("key", "member.key"), ("trusted-ca", "ca.pem")):
                words.append(f"--{side}{option}-file={self._files[name]}")
        self.members[number] = self.world.spawn(words)

    def kill(self, number: int) -> None:
        """As a power cut would (its disk stays)."""
        process = self.members[number]
        assert process is not None
        process.signal(signal.SIGKILL)
        process.wait()
        self.members[number] = None

    def wait(self) -> None:
        """Until every member that runs knows a leader and answers."""
        running = [number for number, process in enumerate(self.members) if process is not None]
        until(lambda: all(self.leads(number) for number in running), "every member knows who leads")

    def leader(self) -> int:
        """Who leads now."""
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends:
            for number, process in enumerate(self.members):
                told = self.leads(number) if process is not None else {}
                if told and told["leader"] == told["header"]["member_id"]:
                    return number
        raise AssertionError("no member leads")

    def leads(self, number: int) -> dict[str, Any]:
        """What a member says of itself; nothing as long as it knows no leader."""
        told = self._answer(number, "/v3/maintenance/status", b"{}", seconds=2)
        return told if told.get("leader", "0") != "0" else {}

    def ask(self, number: int, path: str, body: bytes) -> dict[str, Any]:
        """One call of the gateway, without the keychain; again while there is no answer, as when nobody leads."""
        told: dict[str, Any] = {}

        def answered() -> bool:
            told.update(self._answer(number, path, body, seconds=20))
            return bool(told)

        until(answered, f"member {number} answers {path}")
        return told

    def _answer(self, number: int, path: str, body: bytes, seconds: float) -> dict[str, Any]:
        """What a member answers; nothing if it does not, or says that it cannot."""
        request = urllib.request.Request(self.endpoints[number] + path, body)  # noqa: S310 - https
        try:
            with urllib.request.urlopen(request, timeout=seconds, context=self._context) as answer:  # noqa: S310
                return dict(msgspec.json.decode(answer.read()))
        except (OSError, http.client.HTTPException):
            return {}

    def content(self) -> bytes:
        """Everything that the cluster holds: keys and values."""
        told = self.ask(self.leader(), "/v3/kv/range", b'{"key": "AA==", "range_end": "AA=="}')
        pairs = msgspec.convert(told.get("kvs", []), list[dict[str, Any]])
        decode = msgspec.json.decode
        return b"\n".join(
            decode(msgspec.json.encode(pair[part]), type=bytes) for pair in pairs for part in ("key", "value")
        )


def run(work: Callable[..., Awaitable[None]], *keychains: EtcdKeychain) -> None:
    """``work`` with these keychains, which are closed afterwards."""

    async def whole() -> None:
        try:
            await work(*keychains)
        finally:
            for keychain in keychains:
                await keychain.close()

    asyncio.run(whole())


class Authority:
    """A certificate authority of its own."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fleet of a test")])
        own = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, 0), critical=True)
        self.pem = own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str) -> tuple[bytes, bytes]:
        """A certificate for 127.0.0.1, for both sides (etcd's gateway is a client of its own), and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        made = (
            self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
            .add_extension(x509.ExtendedKeyUsage(both), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return made.public_bytes(serialization.Encoding.PEM), private

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now, and that the kernel gives nobody who connects: a member that is
    started, or started again, finds them free (ip(7), ip_local_port_range)."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        first = int(file.read().split()[0])
    ports: list[int] = []
    for port in random.sample(range(10000, first), first - 10000):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.append(port)
        if len(ports) == count:
            break
    return ports
