"""Where a file lies, as far as the daemon will mind: said when it is registered, not when it is refused.

These are warnings. The daemon looks itself, each time a program connects.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from keychain_auth.cli.shared.programs import File
from keychain_auth.daemon.places import Places
from keychain_auth.daemon.settings import load_settings
from keychain_auth.errors import KeychainAuthError
from keychain_auth.model import Grade
from keychain_auth.oslayer import system
from keychain_auth.platform.local import LocalPlatform
from keychain_auth.platform.place import LOCAL_FILESYSTEMS, filesystem_of, is_of_root, writable_by_others
from keychain_auth.policy.names import is_of_windows

# The surest that a script can be known on this system.
SCRIPT_GRADE = Grade.LAUNCHED if LocalPlatform.launches else Grade.DECLARED


def trusted_filesystems(places: Places) -> frozenset[str]:
    """The filesystems whose files the daemon takes, as its settings have it. Raises KeychainAuthError."""
    return LOCAL_FILESYSTEMS | frozenset(load_settings(places.settings).filesystems)


def warnings_about(places: Places, *files: File, script: File | None = None) -> list[str]:
    """Sentences about what the daemon will refuse of ``files`` and of ``script``, empty if nothing."""
    try:
        trusted = trusted_filesystems(places)
    except KeychainAuthError as error:
        return [f"the daemon will not start: {error}"]
    found = list(_untrusted(trusted, places, (*files, script) if script else files))
    if script is not None:
        other = writable_by_others(script.program.path, system.user_id())
        if other:
            found.append(f"other users can change {other}: the daemon refuses the script until they cannot")
    return found


def warnings_of_libraries(program: str, listed: Iterable[str]) -> list[str]:
    """A warning if libraries lie beside a program of Windows that its entry does not list: it looks there first."""
    if not is_of_windows(program):
        return []
    known = set(listed)
    found = sorted(
        path.name for path in Path(program).parent.iterdir()
        if path.suffix.lower() == ".dll" and str(path) not in known and not is_of_root(str(path))
    )  # fmt: skip
    if not found:
        return []
    names = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    told = f"beside it lies {names}: if it loads what others than administrators can change, it is refused"
    return [f"{told}. Name each with --library, or install it where only administrators can write"]


def grade_of(path: str) -> Grade:
    """How surely a native program at ``path`` is known to the daemon, as its file lies there now. Raises OSError."""
    return Grade.SYSTEM if is_of_root(path) else Grade.USER


def _untrusted(trusted: frozenset[str], places: Places, files: tuple[File, ...]) -> Iterator[str]:
    for file in files:
        kind = filesystem_of(file.program.path)
        if kind not in trusted:
            yield (
                f"{file.program.path} lies on {kind}, which the daemon does not trust: "
                f'write filesystems = ["{kind}"] into {places.settings} and restart it'
            )
