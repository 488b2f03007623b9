"""Which lines of an audit log a person asks for. Pure: the clock is an argument.

Contract: a line that cannot be read (``unparsable``) is never filtered out by what it might have said: it fits every
question, so that a damaged line is not a way to hide one.
"""

from __future__ import annotations

import fnmatch
import re
from datetime import UTC, datetime, timedelta

import msgspec

from keychain_auth.audit.reading import Line

_AGO = re.compile(r"(\d{1,6})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_PATTERN = re.compile(r"[*?[]")


class Query(msgspec.Struct, frozen=True):
    """What is asked for; empty fields ask for nothing.

    ``programs``: any of these paths, file names, or patterns (``*``, ``?``, ``[abc]``), of the program or the script.
    ``results``: any of GRANTED, DENIED, ERROR. ``since`` and ``until``: timestamps as the log has them. ``after``: a
    sequence number.
    """

    programs: tuple[str, ...] = ()
    service: str = ""
    target: str = ""
    action: str = ""
    reason: str = ""
    results: frozenset[str] = frozenset()
    since: str = ""
    until: str = ""
    after: int = 0

    def wants(self, line: Line) -> bool:
        """Whether the line is one of those."""
        if "unparsable" in line:
            return True
        stamp = str(line.get("timestamp") or "")
        sequence = line.get("seq")
        return (
            (not self.results or line.get("result") in self.results)
            and (not self.service or line.get("service") == self.service)
            and (not self.action or line.get("action") == self.action)
            and (not self.reason or line.get("reason") == self.reason)
            and (not self.target or self.target in _targets(line))
            and (not self.since or stamp >= self.since)
            and (not self.until or stamp < self.until)
            and (not self.after or not isinstance(sequence, int) or sequence > self.after)
            and (not self.programs or any(_is_named(line, name) for name in self.programs))
        )


def program_of(line: Line) -> str:
    """The path of who asked: the script if there is one; "" for what no program asked for."""
    return str(line.get("script_path") or line.get("binary_path") or "")


def hash_of(line: Line) -> str:
    """The hash that belongs to ``program_of``."""
    return str((line.get("script_hash") if line.get("script_path") else line.get("binary_hash")) or "")


def moment(text: str, now: datetime) -> str:
    """A timestamp as the log has it, for "30m", "2h", "7d" (ago), or a date or time in ISO 8601 (UTC if it names none).

    Raises ValueError.
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        when = now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise ValueError(f"{text!a} is no time: 30m, 2h and 7d ago are, and 2026-05-21 or 2026-05-21T12:00") from None
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds_of(line: Line) -> float | None:
    """When the line was written, in seconds since the epoch; None if it does not say."""
    try:
        return datetime.fromisoformat(str(line.get("timestamp"))).timestamp()
    except ValueError:
        return None


def count_of(line: Line) -> int:
    """How many refusals the line stands for; 1 but for those that were counted."""
    count = line.get("count")
    return count if isinstance(count, int) and count > 0 else 1


def _targets(line: Line) -> list[str]:
    targets = line.get("targets")
    return [str(target) for target in targets] if isinstance(targets, list) else []


def _is_named(line: Line, name: str) -> bool:
    paths = [str(line[field]) for field in ("script_path", "binary_path") if line.get(field)]
    return any(_fits(name, path) or _fits(name, path.rpartition("/")[2]) for path in paths)


def _fits(name: str, path: str) -> bool:
    return name == path or bool(_PATTERN.search(name) and fnmatch.fnmatchcase(path, name))
