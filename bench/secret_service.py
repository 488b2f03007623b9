"""Reading through the broker, beside ``keyring`` with the Secret Service directly: a real gnome-keyring on its own bus.

Both are Python programs that read one secret again and again, as a program does that does not cache its secrets.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from collections.abc import Iterator
from importlib import metadata

from lab import SERVICE, Lab, name
from processes import installed
from report import Row, Skip, number, ratios

from support.installation import copy_with_needs

_TARGET = name(4275)
_LOOP = """
import statistics, time
def once():
    began = time.perf_counter_ns()
    assert read()
    return time.perf_counter_ns() - began
taken = [once() for _ in range({count})]
print(statistics.median(taken[{count} // 10:]) / 1e3)
"""
_BROKER = f"""
from keychain_auth import KeychainAuthClient
client = KeychainAuthClient()
read = lambda: client.get({SERVICE!r}, {_TARGET!r})
"""
_DIRECT = f"""
import keyring
from keyring.backends.SecretService import Keyring
keyring.set_keyring(Keyring())
keyring.set_password({SERVICE!r}, {_TARGET!r}, "a secret of some length, as an address of a database is")
read = lambda: keyring.get_password({SERVICE!r}, {_TARGET!r})
"""
# A password of one newline creates the login collection; in the foreground, so that it ends with the session.
_SESSION = """
printf '\\n' | gnome-keyring-daemon --unlock --components=secrets --foreground >/dev/null 2>&1 &
trap 'kill $!' EXIT
until dbus-send --session --dest=org.freedesktop.DBus --print-reply / org.freedesktop.DBus.NameHasOwner \
    string:org.freedesktop.secrets | grep -q true; do :; done
"$@"
"""
_COUNTS = {"broker": 2000, "direct": 100}


def measure(lab: Lab) -> Iterator[Row]:
    """In turns, each time a fresh process."""
    for program in ("gnome-keyring-daemon", "dbus-run-session", "dbus-send"):
        if shutil.which(program) is None:
            raise Skip(f"there is no {program} here (apt-get install gnome-keyring dbus)")
    try:
        copy_with_needs("keyring", lab.world.path("keyring"))
    except metadata.PackageNotFoundError:
        raise Skip("keyring is not installed (pip install keyring)") from None
    broker = lab.world.write("bin/broker.py", _BROKER + _LOOP.format(count=_COUNTS["broker"]))
    direct = lab.world.write("bin/direct.py", _DIRECT + _LOOP.format(count=_COUNTS["direct"]))
    python = f"{installed(lab)}/python"
    lab.register(broker, "--interpreter", python, "--allow-declared", "--script")
    session = ["/usr/bin/env", f"PYTHONPATH={lab.world.path('keyring')}", "dbus-run-session", "--", "bash", "-c"]
    ours, theirs = [], []
    for _ in range(lab.settings.rounds):
        ours.append(float(lab.run([python, "-I", broker])))
        real = os.path.realpath(sys._base_executable)
        theirs.append(float(lab.run([*session, _SESSION, "session", real, direct])))
    beside = f"p50 {number(statistics.median(ours))} µs, keyring {number(statistics.median(theirs))} µs"
    yield Row("a read in Python through the broker, of keyring's", ratios(ours, theirs), "x", 1.0, beside=beside)
