"""What a service manager is to be told: a plan, whole, before anything is written or run.

A platform's ``service.py`` has ``plan(request) -> Plan``: the whole text of every file, and the commands that make the
service manager take notice. It is a pure function, so that ``install --print`` shows exactly what ``install`` would do.

Contract of every plan: each text holds ``MARK``, by which ``uninstall`` knows its own files. A file without it is
somebody's own, and is neither replaced nor removed.
"""

from __future__ import annotations

from typing import NamedTuple

MARK = "Written by keychain-auth install"


class Request(NamedTuple):
    """What is to be installed.

    ``command``: the words that start the daemon, the first of them an absolute path. ``home``, ``config_dir``,
    ``data_dir``, ``runtime_dir``: this user's folders, absolute, the last three those of ``platform.paths``.
    ``socket``: where it listens, if that was chosen. ``uid``: the user. ``environment``: variables that the daemon
    needs to find what the command line finds.

    For the whole machine: ``group``, whose members may connect, "" for everybody; ``launcher``, the C source of
    ``keychain-auth-guarded``, and ``compiler``, what compiles it ("": nothing).
    """

    command: tuple[str, ...]
    home: str
    config_dir: str
    data_dir: str
    runtime_dir: str
    socket: str | None = None
    uid: int = 0
    environment: tuple[tuple[str, str], ...] = ()
    group: str = ""
    launcher: str = ""
    compiler: str = ""


class ServiceFile(NamedTuple):
    """A file to be written: absolute path, whole content and mode."""

    path: str
    content: str
    mode: int = 0o644
    encoding: str = "utf-8"


class Step(NamedTuple):
    """A command to be run. ``needed``: where it fails, the installation has failed; otherwise it is told, and the next
    one is run. ``why``: what it does, as a person reads it."""

    words: tuple[str, ...]
    why: str
    needed: bool = False


class Plan(NamedTuple):
    """``prepare`` is run after the files were written, whether the service manager runs or not, and then ``start``;
    ``stop`` before they are removed, ``forget`` afterwards.

    ``probe`` is run to see whether the service manager is there at all: where it fails, ``start`` is printed for the
    person instead of being run. ``products`` are files that the commands make; they hold ``MARK`` too. ``folders`` are
    removed by ``uninstall`` if nothing is left in them.
    """

    manager: str
    files: tuple[ServiceFile, ...]
    prepare: tuple[Step, ...] = ()
    start: tuple[Step, ...] = ()
    stop: tuple[Step, ...] = ()
    forget: tuple[Step, ...] = ()
    probe: tuple[str, ...] = ()
    products: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
