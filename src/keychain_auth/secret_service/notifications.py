"""Notifications of a desktop: by its portal, or by org.freedesktop.Notifications; whichever is there.

Contract: nothing is started, everything has a deadline, and texts are texts: a server may read a body as markup
(Desktop Notifications Specification, "Markup"), so it is escaped. They hold names that others chose: nothing in them
begins a new line, turns the direction, or cannot be seen.
"""

from __future__ import annotations

import html
import os
import time
from typing import Any

from keychain_auth.errors import printable
from keychain_auth.secret_service.bus import Bus, Call, Refused, Unreachable, session_address

SECONDS = 2.0
_NOTIFICATIONS = "org.freedesktop.Notifications"
_PORTAL = "org.freedesktop.portal.Desktop"
_LONGEST = 500
_CRITICAL = 2


def notify(title: str, text: str, *, urgent: bool = False, identity: str = "", address: str = "") -> str:
    """Show ``text``; the name of who took it. ``identity``: a later one with the same replaces it, where that is known.

    Raises Unreachable if there is no bus, or nobody on it shows notifications.
    """
    deadline = time.monotonic() + SECONDS
    title, text = printable(title)[:_LONGEST], printable(text)[:_LONGEST]
    body = html.escape(text, quote=False)
    for name, call in (
        (_NOTIFICATIONS, _plain(title, body, urgent=urgent)),
        (_PORTAL, _by_portal(title, text, urgent=urgent, identity=identity)),
    ):
        bus = Bus(name, address or session_address(), deadline)
        try:
            if bus.has_owner(name):
                bus.call(call)
                return name
        except Refused:
            continue
        finally:
            bus.close()
    raise Unreachable("nobody shows notifications here")


def _plain(title: str, body: str, *, urgent: bool) -> Call:
    hints = {"urgency": ("y", _CRITICAL if urgent else 1), "category": ("s", "device")}
    arguments: tuple[Any, ...] = ("keychain-auth", 0, "dialog-password", title, body, [], hints, -1)
    return Call("/org/freedesktop/Notifications", _NOTIFICATIONS, "Notify", "susssasa{sv}i", arguments)


def _by_portal(title: str, body: str, *, urgent: bool, identity: str) -> Call:
    notification = {"title": ("s", title), "body": ("s", body), "priority": ("s", "urgent" if urgent else "normal")}
    arguments = (identity or f"keychain-auth-{os.getpid()}-{time.monotonic_ns()}", notification)
    return Call(
        "/org/freedesktop/portal/desktop", "org.freedesktop.portal.Notification", "AddNotification", "sa{sv}", arguments
    )


__all__ = ["Unreachable", "notify"]
