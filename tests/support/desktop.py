"""A private session bus with a stand-in for what shows notifications, which prints each one that it is given."""

from __future__ import annotations

import json
from typing import Any

from support.bus import configuration
from support.logind import missing
from support.process import Process
from support.world import World

_STAND_IN = """
import json, sys
from jeepney import MessageType, new_method_return
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection
connection = open_dbus_connection(sys.argv[1])
connection.send_and_get_reply(message_bus.RequestName(sys.argv[2], 4))
print("ready", flush=True)
while True:
    message = connection.receive()
    if message.header.message_type is MessageType.method_call:
        print(json.dumps(message.body), flush=True)
        if message.header.fields[3] == "Notify":
            connection.send(new_method_return(message, "u", (1,)))
        else:
            connection.send(new_method_return(message))
"""
NOTIFICATIONS = "org.freedesktop.Notifications"
PORTAL = "org.freedesktop.portal.Desktop"


class Desktop:
    """The bus; ``env`` is what a process needs to see it as its session's."""

    def __init__(self, world: World, name: str = NOTIFICATIONS) -> None:
        socket = world.path("run/session_bus")
        address = f"unix:path={socket}"
        self.env = {"DBUS_SESSION_BUS_ADDRESS": address}
        config = world.write("session_bus.conf", configuration("session", socket))
        bus = world.spawn(["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address"])
        bus.out.find(lambda line: line.startswith(b"unix:"))
        script = world.write("desktop.py", _STAND_IN)
        self._process: Process = world.spawn([world.python, script, address, name])
        self._process.out.find(lambda line: line == b"ready")

    def shown(self, text: str) -> list[Any]:
        """The first notification that holds ``text``; waits for it."""
        at = self._process.out.find(lambda line: text in line.decode())
        return list(json.loads(self._process.out[at]))

    @property
    def count(self) -> int:
        """How many were shown so far."""
        return len(self._process.out) - 1


__all__ = ["NOTIFICATIONS", "PORTAL", "Desktop", "missing"]
