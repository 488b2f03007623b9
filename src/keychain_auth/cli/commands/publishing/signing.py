"""For publishers: ``keygen``, ``sign``, and ``verify`` for everybody. They need neither daemon nor policy.

Contract: keys are the files of ``openssl genpkey -algorithm ed25519``; signatures are those of ``openssl pkeyutl
-rawin``. A file is signed whole or stays as it was, and a program that runs may be signed: a new file takes its place.
"""

from __future__ import annotations

import getpass
import hashlib
import mmap
import os
import shlex
import stat
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import click

from keychain_auth import files
from keychain_auth.cli.report import complain
from keychain_auth.cli.shared import config_file, output
from keychain_auth.cli.shared.keys import key_file, public_key_of
from keychain_auth.cli.shared.options import json_option
from keychain_auth.cli.shared.programs import File, look_at, open_file
from keychain_auth.crypto.ed25519 import NotAKey, PassphraseNeeded, SigningKey
from keychain_auth.daemon.places import find_places
from keychain_auth.errors import EXIT_DONE, EXIT_FAILED, KeychainAuthError, UsageError
from keychain_auth.identity.signature import (
    LARGEST_BUILD,
    TAIL_BYTES,
    block,
    key_text,
    parse_trailer,
    trailer,
    unsigned_size,
)

_CHUNK = 1024 * 1024


@click.command()
@click.option("--out", metavar="KEY.pem", default="signing-key.pem", show_default=True, help="The file to write.")
@json_option
def keygen(out: str, as_json: bool) -> None:
    """Make a key to sign programs with, and show its public key.

    The file is the private key, not encrypted, mode 0600. An existing file is never overwritten. To encrypt it, or to
    make one elsewhere: `openssl genpkey -algorithm ed25519 -aes256`.
    """
    key = SigningKey.generate()
    path = os.path.abspath(out)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, files.PRIVATE_FILE)
    except FileExistsError:
        raise UsageError(
            f"{path} exists already, and may be the only copy of a key", hint="keychain-auth keygen --out OTHER.pem"
        ) from None
    try:
        files.write_all(fd, key.pem())
        os.fsync(fd)
    finally:
        os.close(fd)
    public = key_text(key.public)
    if as_json:
        output.print_json({"outcome": "created", "path": path, "public_key": public})
        return
    output.say(
        f"created {path}. Who has this file can sign in your name",
        f"  public key {public}",
        f"Sign with: keychain-auth sign FILE --key {shlex.quote(out)}",
        f"Who trusts it for a SERVICE of his: keychain-auth trust SERVICE {public}",
    )


@click.command()
@click.argument("path", metavar="FILE")
@click.option("--key", "key_path", metavar="KEY.pem", required=True, help="The private key, in PEM.")
@click.option(
    "--build",
    metavar="N",
    type=click.IntRange(0, LARGEST_BUILD),
    help="Also sign a build number, so that entries can refuse older builds. Count upwards.",
)
@click.option("--replace", is_flag=True, help="Put the signature in place of the one that FILE has.")
@click.option("--pure", is_flag=True, help="Sign the bytes themselves instead of their SHA-256 digest.")
@json_option
def sign(path: str, key_path: str, build: int | None, replace: bool, pure: bool, as_json: bool) -> None:
    """Sign the program FILE: append an Ed25519 signature and KCAS to it.

    Sign last: whatever changes the file later (strip, patchelf) takes the signature away. FILE gets the signature by a
    new file in its place; its mode is kept.
    """
    key = _signing_key(key_path)
    real, fd = open_file(path)
    try:
        about = os.fstat(fd)
        length = _unsigned_length(fd, about.st_size, real, replace)
        with files.replacing(real) as target:
            _write_signed(fd, length, target, key, b"" if build is None else block(build, key.public), pure)
            if os.geteuid() == 0:
                os.fchown(target, about.st_uid, about.st_gid)
            os.fchmod(target, stat.S_IMODE(about.st_mode))
    finally:
        os.close(fd)
    file = look_at(real, (key.public,))
    if file.signature is None:
        raise KeychainAuthError(f"{real} was signed, but does not verify: was it changed meanwhile?")
    if as_json:
        output.print_json({"outcome": "signed", **_facts(file)})
        return
    output.say(f"signed {real}", *_lines(file))
    for warning in _warnings(file):
        complain(f"warning: {warning}")


@click.command()
@click.argument("path", metavar="FILE")
@click.option(
    "--public-key",
    "given",
    metavar="KEY",
    multiple=True,
    help="Whose signature it must be: base64, or a file in PEM or DER. May be given several times. "
    "Otherwise those of trusted_signers.",
)
@json_option
def verify(path: str, given: tuple[str, ...], as_json: bool) -> int:
    """Is the program FILE signed, and by whom? Exit code 1 unless the signature is one that counts.

    It counts if it is valid and by one of the keys. What FILE itself says about its signer is not enough.
    """
    services: dict[bytes, frozenset[str]] = {}
    if given:
        keys = [public_key_of(text) for text in given]
    else:
        services = config_file.read(find_places()).signers
        keys = list(services)
    file = look_at(path, keys)
    why = "" if file.signature is not None else _why_not(file, given=bool(given))
    trusted_for = sorted(services.get(file.signature.key, ())) if file.signature is not None else []
    if as_json:
        output.print_json({**_facts(file), "valid": file.signature is not None, "why": why, "services": trusted_for})
    elif file.signature is None:
        output.say(f"{file.program.path}: {why}")
    else:
        output.say(f"{file.program.path} is signed", *_lines(file))
        if trusted_for:
            output.say(f"  trusted for {', '.join(trusted_for)}")
    for warning in _warnings(file) if file.signature is not None and not as_json else ():
        complain(f"warning: {warning}")
    return EXIT_DONE if file.signature is not None else EXIT_FAILED


# --- keys ---------------------------------------------------------------------------------------


def _signing_key(path: str) -> SigningKey:
    pem = key_file(path)
    try:
        key = SigningKey.load(pem)
    except NotAKey as problem:
        raise UsageError(f"{path} cannot sign: {problem}", hint="keychain-auth keygen") from None
    except PassphraseNeeded:
        return _unlocked(path, pem)
    if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
        complain(f"warning: {path} can be read by other users", f"chmod 600 {shlex.quote(path)}")
    return key


def _unlocked(path: str, pem: bytes) -> SigningKey:
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            passphrase = getpass.getpass(f"Passphrase of {path}: ", stream=sys.stderr)
        except (getpass.GetPassWarning, EOFError, OSError):
            raise UsageError(f"{path} is encrypted, and no terminal is there to ask for its passphrase") from None
    try:
        return SigningKey.load(pem, os.fsencode(passphrase))
    except (PassphraseNeeded, NotAKey):
        raise KeychainAuthError(f"this is not the passphrase of {path}") from None


# --- files --------------------------------------------------------------------------------------


def _unsigned_length(fd: int, size: int, path: str, replace: bool) -> int:
    """So many bytes of the file are to be signed."""
    found = parse_trailer(os.pread(fd, TAIL_BYTES, max(0, size - TAIL_BYTES)), size)
    if size == 0:
        raise UsageError(f"{path} is empty")
    if found is None:
        return size
    if found.problem:
        raise UsageError(f"{path} is signed already, and {found.problem}")
    if not replace:
        raise UsageError(f"{path} is signed already", hint="keychain-auth sign FILE --key KEY.pem --replace")
    return unsigned_size(found)


def _write_signed(source: int, length: int, target: int, key: SigningKey, said: bytes, pure: bool) -> None:
    digest = hashlib.sha256()
    for piece in (*_pieces(source, length), said) if said else _pieces(source, length):
        digest.update(piece)
        files.write_all(target, piece)
    if pure:
        with mmap.mmap(target, 0, prot=mmap.PROT_READ) as content:  # our own new file: nobody cuts it short
            signature = key.sign(content)  # type: ignore[arg-type]
    else:
        signature = key.sign(digest.digest())
    files.write_all(target, trailer(signature))


def _pieces(fd: int, length: int) -> Iterator[bytes]:
    position = 0
    while position < length:
        piece = os.pread(fd, min(_CHUNK, length - position), position)
        if not piece:
            raise KeychainAuthError("the file became shorter while it was read; nothing was changed")
        position += len(piece)
        yield piece


# --- words --------------------------------------------------------------------------------------


def _facts(file: File) -> dict[str, Any]:
    signature = file.signature
    return {
        "path": file.program.path,
        "hash": f"sha256:{file.program.sha256}",
        "public_key": None if signature is None else key_text(signature.key),
        "build": None if signature is None else signature.build,
        "over": None if signature is None else "digest" if file.examined.digested else "bytes",
        "warnings": _warnings(file),
    }


def _warnings(file: File) -> list[str]:
    """Why a daemon will grant nothing by the signature, however good it is."""
    if file.is_interpreter:
        return [f"{file.program.path} runs other programs: no signature gives such a program anything"]
    if not file.is_program:
        return [f"{file.program.path} is no ELF program: what runs is its interpreter, which this does not sign"]
    return []


def _lines(file: File) -> list[str]:
    facts = _facts(file)
    over = "its SHA-256 digest" if file.examined.digested else "its bytes"
    lines = [f"  {facts['hash']}", f"  by {facts['public_key']}, over {over}"]
    return lines if facts["build"] is None else [*lines, f"  build {facts['build']}"]


def _why_not(file: File, *, given: bool) -> str:
    found = file.trailer
    if found is None:
        return "not signed"
    if found.problem:
        return found.problem
    whose = "the given public key" if given else "any key of trusted_signers"
    if found.key is None:
        return f"its signature is not valid under {whose}"
    claimed = look_at(file.typed, (found.key,)).signature
    if claimed is None:
        return f"its signature is not valid: it is not by the key {key_text(found.key)} that it names"
    if given:
        return f"it is signed by {key_text(found.key)}, not by {whose}"
    return f"it is signed by {key_text(found.key)}, which trusted_signers does not have"
