"""The options that say how surely a program must be known and what it may load, shared by ``register`` and ``approve``.

What comes out are fields of the entry, as they stand in config.json. An option that is left out changes nothing.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any, TypeVar

import click

from keychain_auth.cli.shared import output
from keychain_auth.cli.shared.programs import look_at, spellings
from keychain_auth.cli.shared.signers import signer_demands
from keychain_auth.errors import UsageError
from keychain_auth.model import Grade
from keychain_auth.platform.local import LocalPlatform
from keychain_auth.policy.behalf import is_helper
from keychain_auth.policy.edit import Document
from keychain_auth.policy.grace import MOST_SECONDS

F = TypeVar("F", bound=Callable[..., Any])

DECLARED_MEANS = (
    'Grade "declared": the daemon takes the command line\'s word that the interpreter runs this script.',
    "It stops other scripts and accidents. It does not stop a program of yours that forges its command line.",
)


def tell_start(path: str, minimum: str) -> None:
    """How a script that was just registered is started, by the grade that its entry asks for."""
    if minimum == Grade.DECLARED:
        output.say(*DECLARED_MEANS)
    elif not LocalPlatform.launches:
        declared = f"keychain-auth register --script {shlex.quote(path)} --allow-declared"
        output.say(f"No script can be launched on this system, so it is refused. Next: {declared}")
    elif is_helper(path):
        output.say("Its tool starts it, and it launches itself.")
    else:
        output.say(
            f"Start it with: keychain-auth launch {shlex.quote(path)}",
            "Started in any other way it is refused, unless it is registered with --allow-declared.",
        )


_OPTIONS = (
    click.option(
        "--minimum-grade",
        type=click.Choice([grade.value for grade in Grade]),
        help="Refuse the program when it is known less surely than that.",
    ),
    click.option(
        "--allow-declared",
        is_flag=True,
        help="For a script: take its command line's word for it (the same as --minimum-grade declared).",
    ),
    click.option(
        "--library",
        "libraries",
        metavar="FILE",
        multiple=True,
        help="It may load this library, as it is now. Needed for libraries that root did not install.",
    ),
    click.option("--no-library", "no_libraries", metavar="FILE", multiple=True, help="It may not load FILE any more."),
    click.option(
        "--executable-memory/--no-executable-memory",
        default=None,
        help="It may run code that it makes itself (a just-in-time compiler).",
    ),
    click.option(
        "--foreign-mounts/--no-foreign-mounts",
        default=None,
        help="It may run with mounts of its own (PrivateTmp= of systemd).",
    ),
    click.option(
        "--signer",
        metavar="SERVICE|KEY",
        help="Every build that this trusted signer signs counts as the program, not only the present one.",
    ),
    click.option(
        "--publisher",
        metavar="NAME",
        help="Refuse it unless this publisher signed its code, by the system's word: on macOS a team identifier, "
        "on Windows the subject of an Authenticode certificate, or its sha256:….",
    ),
    click.option("--no-publisher", is_flag=True, help="Ask for no publisher any more."),
    click.option(
        "--no-rollback/--allow-rollback",
        default=None,
        help="Refuse a build with a lower number than was seen. Needs --signer, and builds signed with a number.",
    ),
    click.option(
        "--grace",
        "grace_seconds",
        metavar="SECONDS",
        type=click.IntRange(0, MOST_SECONDS),
        help="After an upgrade, serve the version before for so long, where it runs already.",
    ),
    click.option(
        "--stale-reads/--no-stale-reads",
        default=None,
        help="While a keychain elsewhere is gone, answer reads with what it answered lately (stale_seconds).",
    ),
    click.option(
        "--user",
        "users",
        metavar="NAME",
        multiple=True,
        help="In system mode: it counts for this user. Can be repeated.",
    ),
    click.option("--all-users", is_flag=True, help="In system mode: it counts for every user, as without --user."),
    click.option(
        "--guarded/--no-guarded",
        default=None,
        help="In system mode: refuse it unless keychain-auth-guarded started it, so that nobody can look into it.",
    ),
    click.option(
        "--strict/--no-strict",
        default=None,
        help="Look for changed code in memory and for others on its connection.",
    ),
)


def demand_options(command: F) -> F:
    """The options, which come in as keyword arguments for ``demands``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def forgotten(paths: tuple[str, ...]) -> frozenset[str]:
    """The names under which the libraries of ``--no-library`` may stand in the entry. They need not exist any more."""
    return frozenset(name for path in paths for name in spellings(path))


def demands(
    *,
    is_script: bool,
    minimum_grade: str | None,
    allow_declared: bool,
    libraries: tuple[str, ...],
    executable_memory: bool | None,
    foreign_mounts: bool | None,
    grace_seconds: int | None,
    stale_reads: bool | None,
    strict: bool | None,
    users: tuple[str, ...],
    all_users: bool,
    guarded: bool | None,
    publisher: str | None,
    no_publisher: bool,
    signer: str | None,
    no_rollback: bool | None,
) -> Document:
    """The fields of the entry that the options ask for. Raises UsageError, NotFound."""
    if allow_declared and (not is_script or minimum_grade not in (None, Grade.DECLARED)):
        raise UsageError("--allow-declared is for scripts, and goes with no other minimum grade")
    fields = signer_demands(signer, no_rollback, is_script=is_script)
    if allow_declared or minimum_grade is not None:
        fields["minimum_grade"] = minimum_grade or Grade.DECLARED.value
    if libraries:
        files = [look_at(path).program for path in libraries]
        fields["libraries"] = [{"path": file.path, "hash": f"sha256:{file.sha256}"} for file in files]
    if grace_seconds is not None:
        fields["grace_seconds"] = grace_seconds
    if users and all_users:
        raise UsageError("--user and --all-users contradict each other")
    if users or all_users:
        fields["users"] = list(users) or None
    if publisher and no_publisher:
        raise UsageError("--publisher and --no-publisher contradict each other")
    if publisher and is_script:
        raise UsageError("--publisher is for programs: that of an interpreter says nothing of its script")
    if publisher or no_publisher:
        fields["publisher"] = publisher
    flags = {
        "executable_memory": executable_memory, "foreign_mounts": foreign_mounts, "strict": strict, "guarded": guarded,
        "allow_stale_reads": stale_reads,
    }  # fmt: skip
    fields.update({name: wanted for name, wanted in flags.items() if wanted is not None})
    return fields
