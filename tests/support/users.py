"""Who runs the daemons and clients of a test: never root.

As root two system users are made once and kept: one whose daemon is tested, and a stranger. Anybody else tests as
himself, and has no stranger.
"""

from __future__ import annotations

import functools
import os
import pwd
import subprocess
from dataclasses import dataclass
from typing import Any

OWNER = "keychain-auth-test"
STRANGER = "keychain-auth-other"
THIRD = "keychain-auth-third"


@dataclass(frozen=True)
class Account:
    """A user of this machine, and how to start a process as that user."""

    name: str
    uid: int
    gid: int

    def popen(self) -> dict[str, Any]:
        """The arguments of ``subprocess`` that run a program as this user: no groups are left over."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: str) -> None:
        """Give ``path`` to this user."""
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def myself() -> Account:
    """The user of this very process."""
    me = pwd.getpwuid(os.geteuid())
    return Account(me.pw_name, me.pw_uid, me.pw_gid)


def root() -> Account:
    """Root, for what only root can install."""
    return Account("root", 0, 0)


def may_be_root() -> bool:
    """Whether tests of what root installs can run here."""
    return os.geteuid() == 0


@functools.lru_cache(maxsize=1)
def owner() -> Account:
    """The unprivileged user under test."""
    return _system_user(OWNER) if os.geteuid() == 0 else myself()


@functools.lru_cache(maxsize=1)
def stranger() -> Account | None:
    """Another unprivileged user; None when this process may not run anything as somebody else."""
    return _system_user(STRANGER) if os.geteuid() == 0 else None


@functools.lru_cache(maxsize=1)
def third() -> Account | None:
    """One more, where a daemon of its own user serves two others."""
    return _system_user(THIRD) if os.geteuid() == 0 else None


def _system_user(name: str) -> Account:
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        made = subprocess.run(
            ["/usr/sbin/useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
             "--shell", "/usr/sbin/nologin", name],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        try:  # two test runs may have started together: only the result counts
            found = pwd.getpwnam(name)
        except KeyError:
            raise RuntimeError(f"cannot create the user {name}: {made.stderr.strip()}") from None
    return Account(found.pw_name, found.pw_uid, found.pw_gid)
