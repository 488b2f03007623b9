"""What logind says of sleep and of locked screens (org.freedesktop.login1), over the system bus.

Contract: ``reasons`` names what happened since it was asked the last time and is a reason to lock, for this user's
sessions only. It may wait for an answer, at most ``SECONDS``: for a worker thread.

What it does not promise: to be told in time. Between the signal and the sleep of the machine lie milliseconds or
seconds, and nobody waits for us (that would need an inhibitor, which keeps a machine awake when we hang). What was not
locked before is locked at the first moment after.
"""

from __future__ import annotations

import os
import time

from keychain_auth.secret_service.bus import Bus, Call, Refused, Signal, Unreachable

NAME = "org.freedesktop.login1"
SECONDS = 2.0
_SESSIONS = "/org/freedesktop/login1/session"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_RULES = (
    f"type='signal',sender='{NAME}',interface='{NAME}.Manager',member='PrepareForSleep'",
    f"type='signal',sender='{NAME}',interface='{NAME}.Session',member='Lock'",
    f"type='signal',sender='{NAME}',interface='{_PROPERTIES}',path_namespace='{_SESSIONS}'",
)
SLEEP = "the machine goes to sleep"
SCREEN = "the screen was locked"


class Logind:
    """Connects when it is made. Raises Unreachable if there is no bus, or no logind on it."""

    def __init__(self, address: str = "", uid: int | None = None) -> None:
        self._uid = os.getuid() if uid is None else uid
        self._bus = Bus(NAME, address or system_address(), time.monotonic() + SECONDS)
        try:
            if not self._bus.has_owner(NAME):
                raise Unreachable("there is no logind")
            for rule in _RULES:
                self._bus.watch(rule)
        except BaseException:
            self._bus.close()
            raise

    def fileno(self) -> int:
        """Readable when something was said."""
        return self._bus.fileno()

    def reasons(self) -> list[str]:
        """SLEEP and SCREEN, as often as they were said. Raises Unreachable: then this object is of no use any more."""
        self._bus.deadline = time.monotonic() + SECONDS
        found: list[str] = []
        while signals := self._bus.signals():  # more may come while a session is looked at
            found += [reason for signal in signals if (reason := self._reason(signal))]
        return found

    def close(self) -> None:
        """Leave the bus."""
        self._bus.close()

    def _reason(self, signal: Signal) -> str:
        if signal.member == "PrepareForSleep":
            return SLEEP if signal.body[:1] == (True,) else ""
        locks = signal.member == "Lock" or (
            signal.member == "PropertiesChanged"
            and len(signal.body) > 1
            and isinstance(signal.body[1], dict)
            and signal.body[1].get("LockedHint") == ("b", True)
        )
        return SCREEN if locks and self._is_mine(signal.path) else ""

    def _is_mine(self, session: str) -> bool:
        try:
            answer = self._bus.call(Call(session, _PROPERTIES, "Get", "ss", (f"{NAME}.Session", "User")))
        except Refused:  # it ended meanwhile
            return False
        return bool(answer[0][1][0] == self._uid)


def system_address() -> str:
    """Where the system bus is: DBUS_SYSTEM_BUS_ADDRESS, else the place that the D-Bus specification names."""
    return os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", "") or "unix:path=/var/run/dbus/system_bus_socket"


__all__ = ["NAME", "SCREEN", "SLEEP", "Logind", "Unreachable", "system_address"]
