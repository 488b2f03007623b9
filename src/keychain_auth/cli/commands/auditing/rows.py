"""A line of the audit log as a person reads it, and the options by which lines are chosen."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from keychain_auth.audit.query import Query, moment, program_of
from keychain_auth.cli.shared.programs import spellings
from keychain_auth.errors import UsageError

COLUMNS = ("timestamp", "action", "result", "reason", "program", "service", "targets", "detail")
# What the daemon adds to a line that waited for the vault's key (``daemon.locking.late_audit``).
_MADE_BEFORE = re.compile(r"(?:^|; )made (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ), before the vault was unlocked$")
_F = TypeVar("_F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--program", metavar="PATH", multiple=True, help="Only this program: a path, a file name, a pattern."),
    click.option("--service", metavar="SERVICE", default="", help="Only this service."),
    click.option("--target", metavar="TARGET", default="", help="Only lines that name this target."),
    click.option("--action", metavar="ACTION", default="", help="Only this action (read, connect, admin_read, …)."),
    click.option("--reason", metavar="REASON", default="", help="Only this reason."),
    click.option("--denied", is_flag=True, help="Only what was refused."),
    click.option("--granted", is_flag=True, help="Only what was granted."),
    click.option("--failed", is_flag=True, help="Only what failed."),
    click.option("--since", metavar="TIME", default="", help="Only from then on: 30m, 2h, 7d (ago), or 2026-05-21."),
    click.option("--until", metavar="TIME", default="", help="Only until then."),
)


def query_options(command: _F) -> _F:
    """The options of ``query``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def query(
    program: tuple[str, ...], service: str, target: str, action: str, reason: str, denied: bool, granted: bool,
    failed: bool, since: str, until: str, after: int = 0,
) -> Query:  # fmt: skip
    """What the options ask for. Raises UsageError."""
    now = datetime.now(UTC)
    chosen = {"DENIED": denied, "GRANTED": granted, "ERROR": failed}
    try:
        return Query(
            programs=tuple(name for typed in program for name in _names(typed)),
            service=service, target=target, action=action, reason=reason,
            results=frozenset(result for result, wanted in chosen.items() if wanted),
            since=moment(since, now) if since else "",
            until=moment(until, now) if until else "",
            after=after,
        )  # fmt: skip
    except ValueError as error:
        raise UsageError(str(error)) from None


def _names(typed: str) -> tuple[str, ...]:
    """A path may be typed as a link, or from the current folder; a pattern or a bare name is what it is."""
    return (typed, *spellings(typed)) if "/" in typed and "*" not in typed else (typed,)


def row(line: dict[str, Any]) -> tuple[object, ...]:
    """The cells under ``COLUMNS``."""
    if "unparsable" in line:
        return ("?", "?", "?", "not a line of an audit log", line["unparsable"], "", "", "")
    targets = line.get("targets")
    return (
        _when(line),
        line.get("action") or "",
        line.get("result") or "",
        _reason(line),
        program_of(line),
        line.get("service") or "",
        ", ".join(map(str, targets)) if isinstance(targets, list) else "",
        _MADE_BEFORE.sub("", str(line.get("detail") or "")),
    )


def _when(line: dict[str, Any]) -> str:
    """When it happened. A line that waited for the vault to be unlocked says when it was written, too: the first time
    is read from its text, and only the second one is the log's word."""
    written = str(line.get("timestamp") or "")
    made = _MADE_BEFORE.search(str(line.get("detail") or ""))
    return f"{made[1]} (written {written})" if made else written


def _reason(line: dict[str, Any]) -> str:
    """A line that counts refusals says how many."""
    times = f"{line['count']} times" if isinstance(line.get("count"), int) else ""
    return " ".join(filter(None, (str(line.get("reason") or ""), times)))
