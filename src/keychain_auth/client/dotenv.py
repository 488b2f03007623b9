"""Files of variables (dotenv): ``NAME=VALUE`` on a line, quoted or not, comments, ``export``.

Contract: every variable of the text, in its order, or UsageError that names the line; nothing is dropped in silence. In
``'…'`` all stands as it is, in ``"…"`` a backslash escapes, and both may go over several lines. A value without quotes
ends at `` #``. No variable is looked up inside of a value. No error shows a value.

Only the standard library's light parts: this is part of the start of every command that ``run`` starts.
"""

from __future__ import annotations

from keychain_auth.client.textfile import read_text
from keychain_auth.errors import UsageError

LARGEST = 16 * 1024 * 1024  # bytes
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


def read(file: str) -> dict[str, str]:
    """The variables of a file. Raises UsageError, also for one that stands twice; NotFound, KeychainAuthError."""
    found: dict[str, str] = {}
    try:
        for name, value in variables(read_text(file, LARGEST)):
            if name in found:
                raise UsageError(f"{name} stands twice: which one counts is doubtful", hint="rename one of them")
            found[name] = value
    except UsageError as error:
        raise UsageError(f"{file}: {error}", hint=error.hint) from None
    return found


def variables(text: str) -> list[tuple[str, str]]:
    """Names and values of ``text``. Raises UsageError."""
    found = []
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        number, line = at + 1, lines[at].strip()
        at += 1
        if not line or line.startswith("#"):
            continue
        name, equals, rest = line.removeprefix("export ").partition("=")
        name, rest = name.strip(), rest.strip()
        if not equals or not is_name(name):
            raise UsageError(f"line {number} is not NAME=VALUE")
        if rest[:1] not in ("'", '"'):
            found.append((name, _unquoted(rest)))
            continue
        end, looked = _end(rest, 1)
        while end < 0:  # a quoted value may go over several lines, each of which is looked at once
            if at == len(lines):
                raise UsageError(f"line {number}: the quotation mark is not closed")
            rest += "\n" + lines[at]
            at += 1
            end, looked = _end(rest, looked)
        after = rest[end + 1 :].strip()
        if after and not after.startswith("#"):
            raise UsageError(f"line {number}: something follows the value")
        inner = rest[1:end]
        found.append((name, inner if rest[0] == "'" else _unescaped(inner)))
    return found


def is_name(word: str) -> bool:
    """Can a variable be called that? Letters, digits, ``_`` and ``.``, all of them ASCII."""
    return word.isascii() and word.replace(".", "_").isidentifier() and word[0] != "."


def _unquoted(rest: str) -> str:
    """Up to a ``#`` after a space."""
    at = 0
    while (at := rest.find("#", at + 1)) > 0:
        if rest[at - 1].isspace():
            return rest[: at - 1].strip()
    return rest


def _end(rest: str, at: int) -> tuple[int, int]:
    """Where the quotation mark that ``rest`` begins with is closed, -1 if it is not; and from where to look on, once
    there is more. ``at``: nothing before it closes it."""
    while at < len(rest):
        if rest[at] == "\\" and rest[0] == '"':
            at += 1
        elif rest[at] == rest[0]:
            return at, at
        at += 1
    return -1, at


def _unescaped(inner: str) -> str:
    pieces, at = [], 0
    while (slash := inner.find("\\", at)) >= 0 and slash + 1 < len(inner):
        pieces.append(inner[at:slash])
        pieces.append(_ESCAPES.get(inner[slash + 1], inner[slash : slash + 2]))
        at = slash + 2
    return "".join([*pieces, inner[at:]])
