"""``upgrade --all``: every entry whose changed files a package manager vouches for gets its new hashes.

The decision is in ``policy.vouching``. Here are the looks: each file is read once, and both of its digests are of the
same bytes, so that what was vouched for is what is written down.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Collection
from typing import Any

from keychain_auth.cli.commands.registering import packages
from keychain_auth.cli.shared import config_file, output
from keychain_auth.cli.shared.programs import open_file
from keychain_auth.daemon.places import Places
from keychain_auth.errors import KeychainAuthError
from keychain_auth.model import Entry
from keychain_auth.platform.place import only_root_writes
from keychain_auth.policy import edit
from keychain_auth.policy.vouching import Plan, Seen, parts, plan

_PIECE_BYTES = 1024 * 1024


def upgrade_all(places: Places, now: str, as_json: bool) -> None:
    """Renew what can be renewed, and tell of everything. Raises KeychainAuthError, OSError."""
    entries = list(config_file.read(places).by_program.values())
    known: dict[str, set[str]] = {}
    for entry in entries:
        for part in parts(entry):
            known.setdefault(part.path, set()).add(part.sha256)
    seen = {path: look(path, hashes) for path, hashes in known.items()}
    planned = [(entry, plan(entry, seen)) for entry in entries]
    _tell([_row(entry, done) for entry, done in _renew(places, planned, now)], as_json)


def look(path: str, known: Collection[str]) -> Seen:
    """The file as it is now, and what a package says of it if it has another hash than those ``known``."""
    try:
        real, fd = open_file(path)
    except KeychainAuthError as error:
        return Seen(problem=str(error))
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open(fd, "rb", buffering=0) as file:
        while piece := file.read(_PIECE_BYTES):
            sha256.update(piece)
            md5.update(piece)
    if real != path:
        return Seen(problem=f"{path} is a link to {real} now")
    return Seen(
        sha256.hexdigest(),
        md5.hexdigest(),
        of_root=only_root_writes(real),
        claim=packages.claim(real) if set(known) != {sha256.hexdigest()} else None,
        manager=bool(packages.managers()),
    )


def _renew(places: Places, planned: list[tuple[Entry, Plan]], now: str) -> list[tuple[Entry, Plan]]:
    """Write what is to be renewed, all in one change. What cannot be written is left, and says why."""
    if not any(wanted.outcome == "updated" for _, wanted in planned):
        return planned

    def renew(document: edit.Document) -> tuple[edit.Document, list[tuple[Entry, Plan]]]:
        done = []
        for entry, wanted in planned:
            try:
                document = edit.refresh_files(document, entry.program.path, wanted.hashes, now)
                done.append((entry, wanted))
            except KeychainAuthError as error:
                done.append((entry, Plan("left", why=str(error))))
        return document, done

    return config_file.change(places, renew)


def _row(entry: Entry, done: Plan) -> dict[str, Any]:
    path = entry.program.path
    return {
        "path": path,
        "outcome": done.outcome,
        "hash": f"sha256:{done.hashes.get(path, entry.program.sha256)}",
        "packages": list(done.packages),
        "why": done.why,
        "imports_looked_at": not entry.launch.trees,
        "mend": f"keychain-auth upgrade {shlex.quote(path)}" if done.outcome == "left" and os.path.exists(path) else "",
    }


def _tell(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        output.print_json({"entries": rows})
        return
    for row in rows:
        if row["outcome"] == "updated":
            output.say(f"updated {row['path']}", f"  {row['hash']}, by {', '.join(row['packages'])}")
        elif row["outcome"] == "left":
            output.say(f"left {row['path']}", f"  {row['why']}")
            if row["mend"]:
                output.say(f"  If it was you who changed it: {row['mend']}")
    same = sum(row["outcome"] == "unchanged" for row in rows)
    output.say(f"{same} unchanged")
    unseen = [row for row in rows if not row["imports_looked_at"]]
    if unseen:
        output.say(f"Of {len(unseen)} of all these, what it imports was not looked at. If that changed by your doing:")
        output.say(*(f"  keychain-auth upgrade {shlex.quote(row['path'])}" for row in unseen))
