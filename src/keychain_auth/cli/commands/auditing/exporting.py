"""``keychain-auth audit export``: the record for other programs, whole or what is new since the last time."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import click

from keychain_auth import files
from keychain_auth.audit import following, reading
from keychain_auth.cli.commands.auditing.destinations import JOURNAL, SYSLOG, Destination, Journal, Syslog
from keychain_auth.cli.commands.auditing.rows import query, query_options
from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import json_option
from keychain_auth.daemon.places import find_places
from keychain_auth.errors import KeychainAuthError, NotFound, UsageError, quoted

_FILES = ("json", "jsonl")
_SERVICES: dict[str, tuple[type[Destination], str]] = {"journald": (Journal, JOURNAL), "syslog": (Syslog, SYSLOG)}
_LOOK_SECONDS = 0.5


@click.command()
@click.argument("where", metavar="WHERE", type=click.Choice((*_FILES, *_SERVICES)))
@click.argument("file", required=False, default="-")
@click.option("--after", metavar="SEQ", type=click.IntRange(min=0), default=0, help="Only lines beyond this number.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until Ctrl-C or SIGTERM.")
@click.option("--log-socket", metavar="PATH", default="", help="Where journald or syslog listens, if elsewhere.")
@query_options
@json_option
def export(
    where: str, file: str, after: int, follow: bool, log_socket: str, as_json: bool, **asked: Any
) -> None:  # fmt: skip
    """Copy lines of the audit log to WHERE: json or jsonl (into a new FILE, or stdout), journald, syslog.

    It ends with the number of the last line: give it as --after the next time, and no line comes twice. Lines keep
    their sequence number and chain. Nothing is verified.
    """
    path, wanted = find_places().audit_log, query(**asked, after=after)
    if not os.path.isdir(os.path.dirname(path)):
        raise NotFound(f"there is no audit log {path} yet", hint="keychain-auth start")
    if where == "json" and follow:
        raise UsageError("one JSON document has an end; with --follow use jsonl")
    counter = _Counter(after)
    lines = counter.through(line for line in _lines(path, after, follow=follow) if wanted.wants(line))
    if where in _SERVICES and file != "-":
        raise UsageError(f"{where} takes no FILE")
    if where in _SERVICES:
        kind, usual = _SERVICES[where]
        _send(kind(log_socket or usual), lines)
    elif file != "-":
        _into_file(where, lines, file)
    else:
        _write(where, lines, click.echo)
    if where in _FILES and file == "-":
        return  # stdout holds the lines
    if as_json:
        output.print_json({"exported": counter.count, "last": counter.last})
    else:
        output.say(f"exported {counter.count} lines; the next time: --after {counter.last}")


class _Counter:
    def __init__(self, after: int) -> None:
        self.count = 0
        self.last = after

    def through(self, lines: Iterator[reading.Line]) -> Iterator[reading.Line]:
        for line in lines:
            yield line
            self.count += 1
            number = line.get("seq")
            self.last = number if isinstance(number, int) else self.last


def _lines(path: str, after: int, *, follow: bool) -> Iterator[reading.Line]:
    if not follow:
        return reading.iterate(path)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # between two lines: what was sent is always counted
        signal.signal(number, lambda *_: stop.set())
    return following.follow(path, after, lambda: not stop.wait(_LOOK_SECONDS))


def _send(destination: Destination, lines: Iterator[reading.Line]) -> None:
    try:
        for line in lines:
            destination.send(line)
    finally:
        destination.close()


def _into_file(where: str, lines: Iterator[reading.Line], file: str) -> None:
    """A new file, mode 0600. With --follow it grows as lines come, so it is not written aside first."""
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, files.PRIVATE_FILE)
    except FileExistsError:
        raise UsageError(
            f"{file} exists already; nothing was written", hint=f"mv {quoted(file)} {quoted(file)}.old"
        ) from None
    except OSError as error:
        raise KeychainAuthError(f"cannot write {file}: {error.strerror}", hint=f"ls -ld {quoted(file)}") from None
    with os.fdopen(fd, "w", encoding="ascii") as stream:

        def write(text: str) -> None:
            stream.write(text + "\n")
            stream.flush()

        _write(where, lines, write)


def _write(where: str, lines: Iterator[reading.Line], write: Callable[[str], object]) -> None:
    """As lines, or as one document of which no more than a line is in memory."""
    if where == "jsonl":
        for line in lines:
            write(json.dumps(line, separators=(",", ":")))
        return
    before = "["
    for line in lines:
        write(before + json.dumps(line))
        before = ","
    write("]" if before == "," else "[]")
