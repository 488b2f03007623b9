"""``keychain-auth start``: the daemon in the foreground, until SIGTERM, Ctrl-C, or the end of its terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import click

from keychain_auth.cli import system
from keychain_auth.cli.shared.options import socket_option
from keychain_auth.daemon.app import App
from keychain_auth.daemon.journal import Journal
from keychain_auth.daemon.logfile import log_stream
from keychain_auth.daemon.places import Places, find_places
from keychain_auth.daemon.state import settings_seal
from keychain_auth.daemon.state.settings_seal import Ending, StartAnew
from keychain_auth.platform import paths
from keychain_auth.platform.local import LocalPlatform


@click.command()
@socket_option
@click.option("--log-json", is_flag=True, help="Log one JSON object a line, for programs.")
def start(socket: str | None, log_json: bool) -> None:
    """Run the daemon in the foreground.

    It serves this user only. SIGTERM, Ctrl-C or the end of its terminal (SIGHUP) ends it: what was asked until then is
    answered. Its log goes to stderr. keychain-auth install has systemd start it.
    """
    places = find_places(socket)
    if paths.is_system() and os.geteuid() == 0:
        system.start_as_daemon(places)
    journal = Journal(as_json=log_json, stream=log_stream(places.vault))
    hand_over = _handing_over()
    try:
        ending = _run(places, journal)
    finally:
        journal.close()
    if ending.again and hand_over is not None:
        settings_seal.hand_on(ending.settings)
        hand_over(ending.kept, [sys.executable, *sys.orig_argv[1:]])
    # Everything is saved. A thread may still look at a file that never answers (a stranger's, on FUSE), or write to a
    # stderr that nobody reads, and Python would wait for it at exit.
    os._exit(0)


def _handing_over() -> Callable[[Sequence[tuple[int, bool]], list[str]], None] | None:
    """What makes this process the next daemon. Loaded before the first one serves: a restart follows an upgrade, and
    after that nothing is loaded any more from the files that were exchanged (``daemon.upkeep.own_code``)."""
    if not LocalPlatform.hands_on:
        return None
    from keychain_auth.platform.handing_on import hand_over  # noqa: PLC0415 - not on every system

    return hand_over


def _run(places: Places, journal: Journal) -> Ending:
    """One daemon after the other, as long as this process can be the next one: where listeners are not handed on."""
    settings = settings_seal.handed()
    while True:
        try:
            ending = App(places, journal, settings).run()
        except StartAnew as anew:
            journal.warning("starting anew", why="other settings were accepted than those that it began by")
            ending = Ending(anew.kept, anew.text, again=True)
        if ending.kept or not ending.again:
            return ending
        settings = ending.settings
