"""A private system bus with a stand-in for logind on it, which says what a test tells it to say."""

from __future__ import annotations

import shutil
from importlib import util

from support.bus import configuration
from support.process import Process
from support.world import World

# Orders on stdin, one a line: "sleep true", "lock PATH", "hint PATH true". A session /…/session/_UID is that user's.
_STAND_IN = """
import sys, threading
from jeepney import DBusAddress, MessageType, new_error, new_method_return, new_signal
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection
NAME = "org.freedesktop.login1"
connection = open_dbus_connection(sys.argv[1])
def serve():
    while True:
        message = connection.receive()
        if message.header.message_type is MessageType.method_call:
            path = message.header.fields[1]
            uid = int(path.rpartition("_")[2]) if "/session/_" in path else None
            if message.body == (NAME + ".Session", "User") and uid is not None:
                answer = new_method_return(message, "v", (("(uo)", (uid, "/user")),))
            else:
                answer = new_error(message, "org.freedesktop.DBus.Error.UnknownObject", "s", ("no",))
            connection.send(answer)
connection.send_and_get_reply(message_bus.RequestName(NAME, 4))
threading.Thread(target=serve, daemon=True).start()
print("ready", flush=True)
MANAGER = DBusAddress("/org/freedesktop/login1", interface=NAME + ".Manager")
for line in sys.stdin:
    word, *rest = line.split()
    if word == "sleep":
        connection.send(new_signal(MANAGER, "PrepareForSleep", "b", (rest[0] == "true",)))
    elif word == "lock":
        connection.send(new_signal(DBusAddress(rest[0], interface=NAME + ".Session"), "Lock"))
    else:
        properties = DBusAddress(rest[0], interface="org.freedesktop.DBus.Properties")
        body = (NAME + ".Session", {"LockedHint": ("b", rest[1] == "true")}, [])
        connection.send(new_signal(properties, "PropertiesChanged", "sa{sv}as", body))
"""


def missing() -> str:
    """What to install before there can be a Logind here; empty if all is there."""
    if shutil.which("dbus-daemon") is None:
        return "needs a private bus: apt-get install dbus"
    return "" if util.find_spec("jeepney") else "needs jeepney: pip install jeepney"


class Logind:
    """``env`` is what a process needs to see this bus as the system's."""

    def __init__(self, world: World) -> None:
        self._world = world
        socket = world.path("run/system_bus")
        self.address = f"unix:path={socket}"
        self.env = {"DBUS_SYSTEM_BUS_ADDRESS": self.address}
        config = world.write("system_bus.conf", configuration("system", socket))
        self._bus = world.spawn(["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address"])
        self._bus.out.find(lambda line: line.startswith(b"unix:"))
        self._process: Process | None = None

    def start(self) -> None:
        """Put the stand-in on the bus."""
        script = self._world.write("logind.py", _STAND_IN)
        self._process = self._world.spawn([self._world.python, script, self.address])
        self._process.out.find(lambda line: line == b"ready")

    def stop_bus(self) -> None:
        """End the bus, and so everybody's connection."""
        self._bus.kill()

    def say(self, order: str) -> None:
        """Have it send a signal."""
        assert self._process is not None
        self._process.feed(order.encode() + b"\n")

    def session(self, uid: int) -> str:
        """The path of a session of the user ``uid``."""
        return f"/org/freedesktop/login1/session/_{uid}"


__all__ = ["Logind", "missing"]
