"""``backup`` and ``restore``: the whole vault in one file that a passphrase opens, on any machine.

Contract:
* A backup is made by the running daemon, from one moment, while it serves. ``restore`` works on the files, with no
  daemon running: it also serves who has lost everything else.
* Neither overwrites anything. What a restoration finds in its place moves into a folder of its own, which is named.
* A restoration that brings an older policy back says so.
* Both are in the audit log. A log that belongs to another vault is put aside with that vault.
* The passphrase comes from the terminal or a descriptor, and goes nowhere.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from keychain_auth import files
from keychain_auth.audit import shelf
from keychain_auth.audit.log import AuditLog
from keychain_auth.audit.record import administrative
from keychain_auth.audit.verify import verify
from keychain_auth.cli.report import complain
from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.options import json_option, passphrase_option, socket_option
from keychain_auth.client import admin, passphrase
from keychain_auth.daemon.places import Places, find_places
from keychain_auth.errors import KeychainAuthError, NotFound, VaultInUse
from keychain_auth.keychain.vault import backup as backups
from keychain_auth.keychain.vault import claim_vault
from keychain_auth.keychain.vault import restore as restoration
from keychain_auth.policy.edit import empty_document
from keychain_auth.policy.parse import parse_document
from keychain_auth.protectors.keyfile import KeyFile

_SECONDS = 600.0
_WORDS_OPTION = "--backup-passphrase-fd"
_words_option = click.option(
    _WORDS_OPTION,
    metavar="FD",
    type=int,
    help="Read the backup's own passphrase from the first line of this open descriptor, not from the terminal.",
)


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False))
@_words_option
@passphrase_option
@socket_option
@json_option
def backup(file: str, backup_passphrase_fd: int | None, socket: str | None, as_json: bool) -> None:
    """Write the whole vault into a new FILE, sealed by a passphrase of its own.

    While the daemon serves, and from one moment. Every row is looked at first. FILE opens with its passphrase alone, on
    any machine, and needs no key file: keep it where the vault is not.
    """
    path = os.path.join(os.path.realpath(os.path.dirname(file) or "."), os.path.basename(file))
    words = passphrase.new(backup_passphrase_fd, "New passphrase for the backup: ", _WORDS_OPTION)
    answer: dict[str, Any] = admin.ask("backup", socket=socket, timeout=_SECONDS, path=path, new_passphrase=words)
    if as_json:
        output.print_json({"outcome": "written", "file": path, "bytes": answer["bytes"]})
    else:
        output.say(
            f"wrote {path} ({answer['bytes']} bytes). Try it: keychain-auth restore --dry-run {shlex.quote(file)}"
        )


@click.command("restore")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Look at every row of the backup, and change nothing.")
@_words_option
@socket_option
@json_option
def restore(file: str, dry_run: bool, backup_passphrase_fd: int | None, socket: str | None, as_json: bool) -> None:
    """Make the vault the one in FILE, while no daemon runs.

    What is there now moves into a folder beside it, and nothing of it is changed. If the key file that is there does
    not fit, a new one is made. Passphrases and recovery codes of the vault are those of the time of the backup.
    """
    places = find_places(socket)
    content = _content(file)
    if not dry_run:  # before anybody types a passphrase for nothing
        _claimed(places)()
    words = passphrase.ask("Passphrase of the backup: ", _WORDS_OPTION) if backup_passphrase_fd is None else None
    unpacked = backups.unpack(file, content, words or passphrase.read_line(backup_passphrase_fd or 0))
    files.make_private_dir(places.vault)
    if dry_run:
        report = restoration.look(places.vault, unpacked)
        if as_json:
            output.print_json({"outcome": "looked", **msgspec.to_builtins(report), "ok": report.ok})
        else:
            output.say(f"{file}: {report.secrets} secrets, {report.earlier_values} earlier values, all in order.")
        return
    with contextlib.ExitStack() as undo:
        undo.callback(_claimed(places))
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        done = restoration.restore(places.vault, unpacked, KeyFile, places.vault_key, stamp)
    aside = _keep_the_record(places, done, file, stamp)
    older = bool(done.policy) and not _says(places.policy, done.policy)
    if older:
        complain(
            "warning: the policy that was accepted when this backup was made is obeyed again, and not "
            f"{places.policy}: what was taken away since is granted, until you accept the file",
            "keychain-auth start; then, beside it: keychain-auth unlock, and keychain-auth policy seal",
        )
    if as_json:
        document = {"outcome": "restored", "secrets": done.report.secrets, "slots": done.slots, "aside": aside}
        document["older_policy"] = older
        output.print_json({**document, "new_key_file": done.new_key_file})
        return
    output.say(f"restored {done.report.secrets} secrets and {done.report.earlier_values} earlier values from {file}")
    if aside:
        output.say(f"what was there before is in {aside}")
    if done.new_key_file:
        output.say(f"a new key file was made: {places.vault_key}")
    output.say("Start the daemon: keychain-auth start")


def _claimed(places: Places) -> Callable[[], None]:
    """The vault, for this command alone until what is returned is called. Raises VaultInUse."""
    files.make_private_dir(places.vault)
    try:
        return functools.partial(os.close, claim_vault(places.vault))
    except VaultInUse as error:
        error.hint = "stop the daemon first: keychain-auth status names its pid"
        raise


def _says(path: str, text: str) -> bool:
    """Does the policy in the file say the same as ``text``? No file is one that allows nothing."""
    with contextlib.suppress(KeychainAuthError, OSError):
        there = parse_document(files.read_private(path))[1] if os.path.lexists(path) else empty_document()
        return bool(there == parse_document(text.encode())[1])
    return False


def _content(file: str) -> bytes:
    try:
        return backups.read(file)
    except FileNotFoundError:
        raise NotFound(f"there is no file {file}") from None
    except OSError as error:
        raise KeychainAuthError(f"cannot read {file}: {error.strerror}", hint=f"ls -l {shlex.quote(file)}") from None


def _keep_the_record(places: Places, done: restoration.Restored, file: str, stamp: str) -> str:
    """Put the restoration on record. A log that is not this vault's goes to the other old files; where they are."""
    aside = done.aside
    try:
        if os.path.lexists(places.audit_log) and not verify(places.audit_log, done.audit_key).ok:
            aside = aside or os.path.join(places.vault, f"before-restore-{stamp}")
            files.make_private_dir(aside)
            folder, name = os.path.split(places.audit_log)
            for each in sorted(os.listdir(folder)):
                path = os.path.join(folder, each)
                if (each.startswith(name) or each == "audit.head") and path != shelf.lock_path(places.audit_log):
                    os.rename(path, os.path.join(aside, each))
            files.sync_dir(folder)
        log = AuditLog.open(places.audit_log, done.audit_key)
        try:
            detail = f"{done.report.secrets} secrets from {os.path.realpath(file)}"
            log.append((administrative("vault_restore", detail=detail),), sync=True)
        finally:
            log.close()
    except (KeychainAuthError, OSError) as error:
        complain(f"the vault is restored, but that could not be put on record: {error}")
    return aside
