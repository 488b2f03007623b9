"""Secrets as other programs write them: dotenv, JSON, and the CSV of password managers. Text in, values out; no files.

Contract:
* ``parse`` returns every secret of the text, or raises UsageError that names the line; nothing is dropped in silence.
  A note and a one-time code become secrets of their own, ``NAME:notes`` and ``NAME:totp``.
* ``compose`` writes what ``parse`` of the same format reads back: names, values and, but for dotenv, attributes. What a
  format cannot express is refused by name.
* No error shows a value.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from keychain_auth.client import dotenv
from keychain_auth.errors import UsageError


class Secret(NamedTuple):
    """One secret. ``service`` is empty where the format knows none."""

    service: str
    target: str
    value: str
    attributes: Mapping[str, str] = {}


# What the columns are called: name, value, notes, one-time code, folder; then the attributes.
_MANAGERS: dict[str, dict[str, str]] = {
    "bitwarden": {
        "name": "name", "value": "login_password", "notes": "notes", "totp": "login_totp", "folder": "folder",
        "username": "login_username", "url": "login_uri",
    },
    "1password": {
        "name": "Title", "value": "Password", "notes": "Notes", "totp": "OTPAuth", "folder": "Tags",
        "username": "Username", "url": "Url",
    },
    "keepassxc": {
        "name": "Title", "value": "Password", "notes": "Notes", "totp": "TOTP", "folder": "Group",
        "username": "Username", "url": "URL",
    },
    "chrome": {"name": "name", "value": "password", "notes": "note", "username": "username", "url": "url"},
}  # fmt: skip
_HEADERS = {
    "bitwarden": ("folder,favorite,type,name,notes,fields,reprompt,login_uri,login_username,login_password,login_totp"),
    "1password": "Title,Url,Username,Password,OTPAuth,Favorite,Archived,Tags,Notes",
    "keepassxc": "Group,Title,Username,Password,URL,Notes,TOTP",
    "chrome": "name,url,username,password,note",
}
FORMATS = ("json", "dotenv", *_MANAGERS)
_ATTRIBUTES = ("username", "url", "folder")


def parse(form: str, text: str) -> list[Secret]:
    """The secrets in ``text``. Raises UsageError."""
    found = _PARSERS[form](text.removeprefix("\ufeff")) if form in _PARSERS else _parse_csv(form, text)
    seen: set[tuple[str, str]] = set()
    for secret in found:
        if (secret.service, secret.target) in seen:
            raise UsageError(f"{secret.target!r} stands twice: which one counts is doubtful", hint="rename one of them")
        seen.add((secret.service, secret.target))
    return found


def compose(form: str, secrets: Iterable[Secret]) -> str:
    """``secrets`` as text. Raises UsageError for what the format cannot express."""
    return _COMPOSERS[form](secrets) if form in _COMPOSERS else _compose_csv(form, list(secrets))


# --- dotenv -----------------------------------------------------------------------------------


def _parse_dotenv(text: str) -> list[Secret]:
    return [Secret("", name, value) for name, value in dotenv.variables(text)]


def _compose_dotenv(secrets: Iterable[Secret]) -> str:
    lines = []
    names: set[str] = set()
    for secret in secrets:
        if not dotenv.is_name(secret.target) or secret.target in names:
            raise UsageError(f"{secret.target!r} cannot be the name of a variable, or stands twice", hint="use json")
        if "\0" in secret.value:
            raise UsageError(f"the value of {secret.target!r} cannot be a variable's", hint="use json")
        names.add(secret.target)
        quoted = (
            re.sub(r'["\\$]', lambda match: "\\" + match[0], secret.value).replace("\n", "\\n").replace("\r", "\\r")
        )
        lines.append(f'{secret.target}="{quoted}"\n')
    return "".join(lines)


# --- JSON -------------------------------------------------------------------------------------


def _parse_json(text: str) -> list[Secret]:
    """A list of objects as ``compose`` writes it, or one object of name to value."""
    try:
        document = json.loads(text, object_pairs_hook=_once)
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        raise UsageError(f"line {line}: not JSON, or a name stands twice") from None
    if isinstance(document, dict):
        if not all(isinstance(value, str) for value in document.values()):
            raise UsageError("an object must hold names and values that are text")
        return [Secret("", target, value) for target, value in document.items()]
    if not isinstance(document, list):
        raise UsageError("neither an object nor a list")
    return [_from_object(number, each) for number, each in enumerate(document, start=1)]


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("twice")
    return dict(pairs)


def _from_object(number: int, each: object) -> Secret:
    if not isinstance(each, dict) or set(each) - {"service", "target", "value", "attributes"}:
        raise UsageError(f"entry {number}: an object of service, target, value and attributes is wanted")
    service, target, value = each.get("service", ""), each.get("target"), each.get("value")
    attributes = each.get("attributes", {})
    if not (isinstance(service, str) and isinstance(target, str) and isinstance(value, str)):
        raise UsageError(f"entry {number}: service, target and value are text")
    if not isinstance(attributes, dict) or not all(isinstance(text, str) for text in attributes.values()):
        raise UsageError(f"entry {number}: attributes are an object of text")
    return Secret(service, target, value, attributes)


def _compose_json(secrets: Iterable[Secret]) -> str:
    rows = []
    for secret in secrets:
        row: dict[str, object] = {"service": secret.service, "target": secret.target, "value": secret.value}
        rows.append({**row, "attributes": dict(secret.attributes)} if secret.attributes else row)
    return json.dumps(rows, indent=1) + "\n"


# --- CSV --------------------------------------------------------------------------------------


def _parse_csv(form: str, text: str) -> list[Secret]:
    columns = _MANAGERS[form]
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        missing = [columns[word] for word in ("name", "value") if columns[word] not in (reader.fieldnames or ())]
        if missing:
            raise UsageError(f"this is no export of {form}: it has no column {missing[0]!r}")
        for row in reader:
            if None in row or None in row.values():
                raise UsageError(f"line {reader.line_num}: not as many fields as the first line has")
            rows.append((reader.line_num, {word: row.get(column, "") for word, column in columns.items()}))
    except csv.Error as error:
        raise UsageError(f"line {reader.line_num}: {error}") from None
    titles = Counter(row["name"] for _, row in rows)
    found: list[Secret] = []
    for line, row in rows:
        name = row["name"].strip()
        if titles[row["name"]] > 1 and row.get("username"):
            name = f"{name}/{row['username']}"  # one site, several accounts
        if not name:
            raise UsageError(f"line {line}: an entry without a name")
        attributes = {word: row[word] for word in _ATTRIBUTES if row.get(word)}
        parts = (("", row["value"]), (":notes", row.get("notes", "")), (":totp", row.get("totp", "")))
        found += [Secret("", name + ending, value, attributes) for ending, value in parts if value]
    return found


def _compose_csv(form: str, secrets: Sequence[Secret]) -> str:
    columns = _MANAGERS[form]
    out = io.StringIO(newline="")
    # RFC 4180 ends lines with CRLF; and then Python quotes both of these characters wherever they stand in a value.
    writer = csv.DictWriter(out, _HEADERS[form].split(","), restval="", lineterminator="\r\n")
    writer.writeheader()
    names: set[str] = set()
    for secret in secrets:
        unknown = [name for name in secret.attributes if name not in columns or name not in _ATTRIBUTES]
        if unknown or secret.target in names or secret.target != secret.target.strip() or not secret.value:
            raise UsageError(f"{form} cannot hold {secret.target!r} as it is", hint="use json")
        names.add(secret.target)
        row = {columns["name"]: secret.target, columns["value"]: secret.value}
        if form == "bitwarden":
            row["type"] = "login"
        writer.writerow(row | {columns[name]: text for name, text in secret.attributes.items()})
    return out.getvalue()


_PARSERS: dict[str, Callable[[str], list[Secret]]] = {"dotenv": _parse_dotenv, "json": _parse_json}
_COMPOSERS: dict[str, Callable[[Iterable[Secret]], str]] = {"dotenv": _compose_dotenv, "json": _compose_json}
