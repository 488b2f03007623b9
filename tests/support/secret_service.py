"""A private desktop keyring: a D-Bus session and a real gnome-keyring, both of the user under test, in a world's home.

``missing()`` says what this machine lacks for it; tests skip with that text.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from importlib import util
from typing import Any

from support.bus import configuration
from support.lines import until
from support.process import Process
from support.world import World

BUS_NAME = "org.freedesktop.secrets"
PASSWORD = "correct horse"
_ROOT = "/org/freedesktop/secrets"
_SERVICE = "org.freedesktop.Secret.Service"
_COLLECTION = "org.freedesktop.Secret.Collection"
_UNPROMPTED = "org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface"  # what the login of a desktop uses
_PACKAGES = {
    "dbus-daemon": "dbus",
    "gnome-keyring-daemon": "gnome-keyring",
    "secret-tool": "libsecret-tools",
}


def missing() -> str:
    """What to install before there can be a Desktop here; empty if all is there."""
    packages = [package for program, package in _PACKAGES.items() if shutil.which(program) is None]
    if packages:
        return f"needs a desktop keyring: apt-get install {' '.join(packages)}"
    return "" if util.find_spec("jeepney") else "needs jeepney: pip install jeepney"


class Desktop:
    """``env`` is what a process needs to be in this session. The collection ``login`` is there, and open."""

    def __init__(self, world: World, services: str = "") -> None:
        """``services``: a folder with D-Bus service files, for services that the bus starts when they are called."""
        self.world = world
        socket = world.path("run/bus")
        self.address = f"unix:path={socket}"
        self.env = {"DBUS_SESSION_BUS_ADDRESS": self.address}
        config = world.write("bus.conf", configuration("session", socket, services))
        self.bus = world.spawn(["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address"])
        self.bus.out.find(lambda line: line.startswith(b"unix:"))
        self._connection = _Connection(self.address)
        self.keyring: Process | None = None
        self.start_keyring()

    def close(self) -> None:
        """Leave the bus; the world ends the processes."""
        self._connection.close()

    # --- the keyring ------------------------------------------------------------------------------

    def start_keyring(self, password: str = PASSWORD) -> None:
        """Start gnome-keyring; the collection ``login`` is created, or opened with ``password``."""
        self.keyring = self.world.spawn(
            ["gnome-keyring-daemon", "--unlock", "--components=secrets", "--foreground"], env=self.env
        )
        self.keyring.feed(password.encode())
        self.keyring.end_input()
        until(lambda: self.is_locked() is False, "gnome-keyring is on the bus, its login collection open")

    def start_empty_keyring(self) -> None:
        """Start gnome-keyring as on a machine where nobody has logged in to a desktop: without a collection."""
        shutil.rmtree(self.world.path(".local/share/keyrings"), ignore_errors=True)
        self.keyring = self.world.spawn(["gnome-keyring-daemon", "--components=secrets", "--foreground"], env=self.env)
        until(lambda: self._connection.has_owner(BUS_NAME), "gnome-keyring is on the bus")

    def stop_keyring(self) -> None:
        """End it, as a crash would."""
        assert self.keyring is not None
        self.keyring.kill()
        until(lambda: not self._connection.has_owner(BUS_NAME), "gnome-keyring has left the bus")

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """The keyring answers nobody meanwhile."""
        assert self.keyring is not None
        self.keyring.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.keyring.signal(signal.SIGCONT)

    def lock(self, collection: str = "login") -> None:
        """Lock a collection."""
        self._connection.call(_ROOT, _SERVICE, "Lock", "ao", ([_path(collection)],))
        assert self.is_locked(collection)

    def unlock(self, collection: str = "login", password: str = PASSWORD) -> None:
        """Open a collection without any prompt."""
        secret = self._connection.secret(password)
        self._connection.call(_ROOT, _UNPROMPTED, "UnlockWithMasterPassword", "o(oayays)", (_path(collection), secret))
        assert not self.is_locked(collection)

    def create_collection(self, label: str, password: str = PASSWORD) -> str:
        """A further collection; the last part of its path."""
        body = ({f"{_COLLECTION}.Label": ("s", label)}, self._connection.secret(password))
        [path] = self._connection.call(_ROOT, _UNPROMPTED, "CreateWithMasterPassword", "a{sv}(oayays)", body)
        return str(path).rpartition("/")[2]

    def is_locked(self, collection: str = "login") -> bool | None:
        """None if there is no such collection."""
        try:
            value = self._connection.call(
                _path(collection), "org.freedesktop.DBus.Properties", "Get", "ss", (_COLLECTION, "Locked")
            )
        except LookupError:
            return None
        return bool(value[0][1])

    # --- what passes over the bus -----------------------------------------------------------------

    @contextlib.contextmanager
    def monitored(self) -> Iterator[list[Any]]:
        """The messages that pass over the bus meanwhile, once the block has ended."""
        monitor = _Connection(self.address)
        monitor.become_monitor()
        messages: list[Any] = []
        try:
            yield messages
            self._connection.has_owner("end.of.the.block")  # passes over the bus after all that was before it
            messages += monitor.received_until("end.of.the.block")
        finally:
            monitor.close()

    @contextlib.contextmanager
    def impostor(self) -> Iterator[None]:
        """Somebody else has the name of the Secret Service, and answers every call with an empty message."""
        connection = _Connection(self.address)
        connection.own(BUS_NAME)
        thread = threading.Thread(target=connection.answer_nothing, daemon=True)
        thread.start()
        try:
            yield
        finally:
            connection.hang_up()
            thread.join(60)
            connection.close()

    def items(self, collection: str = "login") -> list[dict[str, str]]:
        """The attributes of every item."""
        properties = "org.freedesktop.DBus.Properties"
        [(_, paths)] = self._connection.call(_path(collection), properties, "Get", "ss", (_COLLECTION, "Items"))
        found = []
        for path in paths:
            [(_, attributes)] = self._connection.call(
                path, properties, "Get", "ss", ("org.freedesktop.Secret.Item", "Attributes")
            )
            found.append(dict(attributes))
        return found

    def plain_create(self, value: str, attributes: dict[str, str]) -> None:
        """Store as the simplest of clients does: unencrypted over the bus."""
        item = "org.freedesktop.Secret.Item"
        body = (
            {f"{item}.Label": ("s", "plain"), f"{item}.Attributes": ("a{ss}", attributes)},
            self._connection.secret(value),
            False,
        )
        self._connection.call(_path("login"), _COLLECTION, "CreateItem", "a{sv}(oayays)b", body)

    def call_service(self) -> None:
        """Call it as most clients do: the bus starts it if it can."""
        self._connection.send(_ROOT, "org.freedesktop.DBus.Peer", "Ping")

    # --- programs in the session --------------------------------------------------------------------

    def run(self, *words: str, input: str = "", check: bool = True) -> str:  # noqa: A002 - as subprocess.run
        """Run a program in this session to its end; what it printed."""
        done = subprocess.run(
            words, input=input, env=self.world.environment(self.env), cwd="/", capture_output=True, text=True,
            check=False, timeout=60, **self.world.user.popen(),
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{words}: {done.returncode} {done.stdout} {done.stderr}"
        return done.stdout

    def store(self, value: str, *attributes: str, label: str = "a secret", collection: str = "") -> None:
        """As ``secret-tool store`` does."""
        where = [f"--collection={_path(collection)}"] if collection else []
        self.run("secret-tool", "store", f"--label={label}", *where, *attributes, input=value)

    def lookup(self, *attributes: str) -> str:
        """As ``secret-tool lookup`` does; empty if there is nothing."""
        return self.run("secret-tool", "lookup", *attributes, check=False)


class _Connection:
    """The test's own place on the bus."""

    def __init__(self, address: str) -> None:
        from jeepney.io.blocking import open_dbus_connection

        self._bus = open_dbus_connection(address)
        self._session = ""

    def close(self) -> None:
        self._bus.close()

    def send(self, path: str, interface: str, method: str) -> None:
        """Call without waiting; the bus may start the service for this."""
        from jeepney import DBusAddress, new_method_call

        self._bus.send(new_method_call(DBusAddress(path, BUS_NAME, interface), method))

    def call(self, path: str, interface: str, method: str, signature: str, body: tuple[Any, ...]) -> tuple[Any, ...]:
        """The answer's body. Raises LookupError. The bus starts nobody for this."""
        from jeepney import DBusAddress, MessageFlag, MessageType, new_method_call

        message = new_method_call(DBusAddress(path, BUS_NAME, interface), method, signature, body)
        message.header.flags |= MessageFlag.no_auto_start
        reply = self._bus.send_and_get_reply(message, timeout=60)
        if reply.header.message_type is MessageType.error:
            raise LookupError(reply.body)
        return tuple(reply.body)

    def secret(self, text: str) -> tuple[str, bytes, bytes, str]:
        """``text`` as the Secret Service's structure, in the clear."""
        if not self._session:
            self._session = self.call(_ROOT, _SERVICE, "OpenSession", "sv", ("plain", ("s", "")))[1]
        return (self._session, b"", text.encode(), "text/plain")

    def own(self, name: str) -> None:
        """Take a name."""
        self._bus.bus_proxy.RequestName(name, 4)

    def answer_nothing(self) -> None:
        """Answer every call with an empty message, until ``hang_up``."""
        from jeepney import MessageType, new_method_return

        with contextlib.suppress(OSError):
            while True:
                message = self._bus.receive()
                if message.header.message_type is MessageType.method_call:
                    self._bus.send(new_method_return(message))

    def hang_up(self) -> None:
        """End what waits for messages here."""
        self._bus.sock.shutdown(2)

    def become_monitor(self) -> None:
        """From now on this connection only sees what others send (D-Bus specification, BecomeMonitor)."""
        from jeepney.bus_messages import Monitoring
        from jeepney.io.blocking import Proxy

        Proxy(Monitoring(), self._bus).BecomeMonitor([])

    def received_until(self, text: str) -> list[Any]:
        """The messages up to the one that asks the bus about ``text``."""
        found = []
        while True:
            message = self._bus.receive(timeout=60)
            if message.body and message.body[0] == text:
                return found
            found.append(message)

    def has_owner(self, name: str) -> bool:
        """Is somebody on the bus under this name?"""
        return bool(self._bus.bus_proxy.NameHasOwner(name)[0])


def _path(collection: str) -> str:
    return f"{_ROOT}/collection/{collection}"


__all__ = ["BUS_NAME", "PASSWORD", "Desktop", "missing"]
