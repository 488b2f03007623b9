"""Signers and builds for the commands that register and check programs."""

from __future__ import annotations

import shlex

from keychain_auth import files
from keychain_auth.cli.shared import config_file
from keychain_auth.cli.shared.keys import public_key_of
from keychain_auth.cli.shared.programs import File, look_at
from keychain_auth.daemon.places import Places, find_places
from keychain_auth.errors import KeychainAuthError, UsageError
from keychain_auth.identity.signature import key_text
from keychain_auth.policy.builds import NOTHING_SEEN, Builds, decode_builds
from keychain_auth.policy.edit import Document
from keychain_auth.policy.parse import Policy


def signer_demands(signer: str | None, no_rollback: bool | None, *, is_script: bool) -> Document:
    """The fields of the entry for ``--signer`` and ``--no-rollback``. Raises UsageError."""
    if is_script and (signer is not None or no_rollback):
        raise UsageError("a script cannot be signed: --signer and --no-rollback are for programs")
    fields: Document = {}
    if signer is not None:
        fields["signer"] = key_text(_key_of(signer, config_file.read(find_places())))
    if no_rollback is not None:
        fields["no_rollback"] = no_rollback
    return fields


def warnings_about_signer(places: Places, path: str) -> list[str]:
    """What a person should know about the entry that was just made for the program ``path``."""
    known = config_file.read(places)
    file = look_at(path, known.signers)
    signer = None if file.signature is None else file.signature.key
    found: list[str] = []
    for entry in known.by_path.get(file.program.path, ()):
        if entry.signer is not None and entry.signer not in known.signers:
            found.append(f"{key_text(entry.signer)} is not in trusted_signers: until then only the hash counts")
        elif entry.signer is not None and entry.signer != signer:
            found.append(f"{path} is not signed by {key_text(entry.signer)}: until then only the hash counts")
        services = known.signers.get(signer, frozenset()) if signer is not None else frozenset()
        for service in sorted(services - (entry.read_services & entry.write_services)):
            found.append(
                f"by its signature alone it had full access to {service}; now it has what this entry says: "
                f"keychain-auth authorize {shlex.quote(path)} {shlex.quote(service)}"
            )
    return found


def signed_file(path: str, signer: bytes) -> File:
    """The file at ``path``, which ``signer`` must have signed. Raises UsageError."""
    file = look_at(path, (signer,))
    if file.signature is None:
        raise UsageError(
            f"{path} is not signed by {key_text(signer)}, as its entry asks",
            hint=f"keychain-auth verify {shlex.quote(path)}",
        )
    return file


def seen_builds(places: Places) -> Builds:
    """The newest builds that the daemon has seen. Raises KeychainAuthError."""
    try:
        return decode_builds(files.read_private(places.builds))
    except FileNotFoundError:
        return NOTHING_SEEN
    except ValueError as problem:
        raise KeychainAuthError(f"{places.builds} is not a list of builds: {problem}") from None


def _key_of(text: str, known: Policy) -> bytes:
    """The key that the service ``text`` is trusted by, or that ``text`` is. Raises UsageError."""
    keys = [key for key, services in known.signers.items() if text in services]
    if len(keys) > 1:
        raise UsageError(f"{text} has {len(keys)} trusted signers: give the key", hint="keychain-auth list")
    if keys:
        return keys[0]
    try:
        return public_key_of(text)
    except UsageError as problem:
        raise UsageError(f"{problem}, nor a service of trusted_signers", hint="keychain-auth list") from None
