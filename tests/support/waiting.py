"""Who waits for a person, asked as the command line asks: by one process that goes on asking."""

from __future__ import annotations

import json
from typing import Any

from support.lines import until
from support.process import Process
from support.world import World

_ASK = """
import json, sys
from keychain_auth.client.admin import Conversation
with Conversation(timeout=600) as daemon:
    for line in sys.stdin:
        print(json.dumps(daemon.ask("waiting", number=-1)["waiting"]), flush=True)
"""


class Onlooker:
    """Looks as often as a test wants to. ``socket``: of a daemon that is not the world's own, but its user's."""

    def __init__(self, world: World, socket: str = "") -> None:
        env = {"KEYCHAIN_AUTH_SOCKET": socket or world.socket}
        self._process: Process = world.spawn([world.python, "-c", _ASK], env=env)
        self._seen = 0

    def now(self) -> list[dict[str, Any]]:
        """Everybody who waits."""
        self._process.feed(b"\n")
        at = self._process.out.find(lambda line: line.startswith(b"["), self._seen)
        self._seen = at + 1
        return list(json.loads(self._process.out[at]))

    def until(self, programs: int | None = 1, connections: int | None = None) -> list[dict[str, Any]]:
        """Wait until so many programs (and connections of all) wait."""

        def reached() -> bool:
            found = self.now()
            waiting = sum(asked["connections"] for asked in found)
            return programs in (None, len(found)) and connections in (None, waiting)

        until(reached, f"{programs or 'some'} programs wait, with {connections or 'any number of'} connections")
        return self.now()
