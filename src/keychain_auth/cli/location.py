"""Where a file lies, as far as the daemon will mind: said when it is registered, not when it is refused.

These are warnings. The daemon looks itself, each time a program connects.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from keychain_auth.cli.programs import File
from keychain_auth.daemon.places import Places
from keychain_auth.daemon.settings import load_settings
from keychain_auth.errors import KeychainAuthError
from keychain_auth.identity.attest import LOCAL_FILESYSTEMS
from keychain_auth.model import Grade
from keychain_auth.platform.linux.filesystem import MountTable
from keychain_auth.platform.linux.ownership import only_root_writes, writable_by_others
from keychain_auth.platform.linux.syscalls import statx_descriptor


def warnings_about(places: Places, *files: File, script: File | None = None) -> list[str]:
    """Sentences about what the daemon will refuse of ``files`` and of ``script``, empty if nothing."""
    try:
        trusted = LOCAL_FILESYSTEMS | set(load_settings(places.settings).filesystems)
    except KeychainAuthError as error:
        return [f"the daemon will not start: {error}"]
    found = list(_untrusted(trusted, places, (*files, script) if script else files))
    if script is not None:
        other = writable_by_others(script.program.path, os.geteuid())
        if other:
            found.append(f"other users can change {other}: the daemon refuses the script until they cannot")
    return found


def grade_of(path: str) -> Grade:
    """How surely a native program at ``path`` is known to the daemon, as its file lies there now. Raises OSError."""
    mounts = MountTable()
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        safe = not mounts.mount(statx_descriptor(fd).mount_id).nosuid and only_root_writes(path)
    finally:
        os.close(fd)
        mounts.close()
    return Grade.SYSTEM if safe else Grade.USER


def _untrusted(trusted: frozenset[str], places: Places, files: tuple[File, ...]) -> Iterator[str]:
    mounts = MountTable()
    try:
        for file in files:
            fd = os.open(file.program.path, os.O_PATH | os.O_CLOEXEC)
            try:
                kind = mounts.filesystem_of(statx_descriptor(fd).mount_id)
            finally:
                os.close(fd)
            if kind not in trusted:
                yield (
                    f"{file.program.path} lies on {kind}, which the daemon does not trust: "
                    f'write filesystems = ["{kind}"] into {places.settings} and restart it'
                )
    finally:
        mounts.close()
