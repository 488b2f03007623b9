"""On whose behalf a helper asks: may this requester stand behind it? Pure.

A helper is a small program that a tool starts to get a secret (a credential helper, an askpass program, the runner of
an agent's commands). Its grants are the entry's own; who may have them used is what ``on_behalf_of`` of the entry says.

Contract:
* The requester is the nearest parent that is no shell: a shell between the two only carries. An ancestor further up
  does not count, so what git starts (a hook) does not stand there as git; unless it is a shell, or becomes one, or has
  the name of one.
* A path without a hash stands for whatever root put there. A file that others could replace is named with its hash.
* An interpreter is nobody; the script that its command line declares is somebody. That is a claim, as for the grade
  ``declared``.
* Who is not named is queued as a pair (requester and helper), and a person approves it once.
* What adopts orphans (pid 1, a service manager) can stand behind nobody: it is the parent of whatever lost its own.

What it does not promise: anything about why the requester started the helper. Whoever can make the requester ask (by
``git credential fill``, say) is given what the requester is given. A process that starts a helper and then becomes the
requester by an exec looks like it: the kernel keeps no time of an exec. docs/threat-model.md has both.
"""

from __future__ import annotations

import re

from keychain_auth.model import Behind, Denial, Entry, Requester
from keychain_auth.policy.interpreters import is_interpreter
from keychain_auth.policy.names import file_name
from keychain_auth.reasons import IDENTITY_NOT_VERIFIED, PENDING_APPROVAL

FIELD = "on_behalf_of"

_CARRIERS = re.compile(r"(?:r|z|c|tc|k|mk|da|ba|fi|a)?sh(?:-static)?|busybox(?:-static)?|toybox")
_ADOPTERS = re.compile(r"systemd|init|tini(?:-static)?|dumb-init|s6-\w+|runit|openrc-init|catatonit|docker-init")
_HELPERS = re.compile(r"(?:.+-)?keychain-auth-.+|.+-keychain-auth")


def carries(path: str) -> bool:
    """Is it a shell, which only carries what somebody else wants?"""
    return _CARRIERS.fullmatch(file_name(path)) is not None


def adopts(path: str) -> bool:
    """Does a program of this name become the parent of processes that lost theirs?"""
    return _ADOPTERS.fullmatch(file_name(path)) is not None


def is_helper(path: str) -> bool:
    """Is it one of the helpers that come with this package, by its name?"""
    return _HELPERS.fullmatch(file_name(path)) is not None


def judge(entry: Entry, requester: Requester | None) -> Denial | None:
    """Why ``requester`` may not stand behind the program of ``entry``; None if it may, or if the entry does not ask."""
    if entry.on_behalf_of is None:
        return None
    wanted = "a program that stands behind it"
    if requester is None:
        return Denial(
            IDENTITY_NOT_VERIFIED, FIELD, wanted, "nobody: whoever started it has ended, or is the system", entry
        )
    if requester.problem:
        return Denial(IDENTITY_NOT_VERIFIED, FIELD, wanted, f"{requester.program.path}: {requester.problem}", entry)
    if any(_fits(behind, requester) for behind in entry.on_behalf_of):
        return None
    return Denial(PENDING_APPROVAL, FIELD, requester.program.path, _named(entry, requester), entry)


def problem_of(path: str, *, script: bool) -> str:
    """Why nobody at ``path`` can stand behind a helper; "" if somebody can. ``script``: it runs one."""
    if adopts(path):
        return "it adopts what lost its parent"
    if is_interpreter(path) and not script:
        return "it runs other programs, and its command line names no script"
    return ""


def _fits(behind: Behind, requester: Requester) -> bool:
    if behind.path != requester.program.path:
        return False
    if behind.interpreter != ("" if requester.interpreter is None else requester.interpreter.path):
        return False
    return behind.sha256 == requester.program.sha256 if behind.sha256 else requester.of_root


def _named(entry: Entry, requester: Requester) -> str:
    for behind in entry.on_behalf_of or ():
        if behind.path == requester.program.path:
            if not behind.sha256:
                return f"{behind.path} without a hash, which others than root could replace"
            return f"another version of {behind.path}, or run by another interpreter"
    return ", ".join(behind.path for behind in entry.on_behalf_of or ()) or "nobody yet"
