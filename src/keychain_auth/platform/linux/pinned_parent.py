"""Who started a process: its parent, pinned as the process itself is.

The kernel names a parent by its number (field 4 of /proc/PID/stat), and a number can get a new owner. So the parent's
folder is opened first, and then the child is asked once more: if it still names that number, and the process behind the
folder is still alive, then they are parent and child at that moment, because a process that has ended is nobody's
parent (kernel/exit.c, forget_original_parent, before the number is free). A parent is never younger than its child.

What it does not promise: that this parent started the process. One whose parent ends is adopted by the nearest ancestor
that asked for that (PR_SET_CHILD_SUBREAPER), or by pid 1. Nor that the parent ran this program when it did: the kernel
keeps no time of an exec.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from keychain_auth.identity.facts import AncestorFacts
from keychain_auth.platform.linux.looks import Host, LinuxProcess, gone, place_of
from keychain_auth.platform.linux.procfs import Process, own_surroundings

_TRIES = 3  # a parent that ends between two looks is followed by another one


class LinuxAncestor(LinuxProcess):
    """See ``Ancestor``."""

    __slots__ = ("_child",)

    def __init__(self, process: Process, child: Process, host: Host) -> None:
        super().__init__(process, process.pid, os.fstat(process.folder).st_uid, host)
        self._child = child

    def facts(self) -> AncestorFacts:
        """See ``Ancestor.facts``."""
        process = self._process
        try:
            exec_id = process.exec_id()
            namespaces = process.namespaces()
            self._own_mounts = namespaces.mount != self._host.mount_namespace
            executable, mount = self._executable()
            self._remember(executable, exec_id)
            return AncestorFacts(
                pid=self.pid,
                uid=self.uid,
                namespaces=namespaces,
                executable=executable,
                at_path=place_of(executable.path, patient=True),
                exec_id=exec_id,
                tracer=process.status().tracer,
                code=self._host.mappings.code_of(
                    process.folder, mount, executable.key.inode, executable.path, patient=True
                ),
                steady=self._still_runs(executable) and process.exec_id() == exec_id,
            )
        except OSError as error:
            raise gone(error) from None

    def parent(self) -> LinuxAncestor | None:
        """See ``Ancestor.parent``."""
        return parent_of(self._process, self._host)

    def is_parent(self) -> bool:
        """See ``Ancestor.is_parent``. Two short reads in /proc, about 20 µs."""
        try:
            return self._child.parent() == self.pid and self._process.exec_id() is not None
        except OSError:
            return False


@contextlib.contextmanager
def own_ancestors(filesystems: frozenset[str]) -> Iterator[Iterator[LinuxAncestor]]:
    """Who started this process, who started that one, and so on: each is pinned until the block ends.

    ``filesystems``: types whose answers are the kernel's own. Raises OSError.
    """
    with contextlib.ExitStack() as held:
        host = Host(filesystems, own_surroundings()[0].mount)
        held.callback(host.close)
        this = Process(os.getpid())
        held.callback(this.close)

        def chain() -> Iterator[LinuxAncestor]:
            found = parent_of(this, host)
            while found is not None:
                held.callback(found.close)
                yield found
                found = found.parent()

        yield chain()


def parent_of(child: Process, host: Host) -> LinuxAncestor | None:
    """The parent of ``child``, pinned; None if that is pid 1 or another pid namespace's, or if ``child`` has ended."""
    try:
        for _ in range(_TRIES):
            pid = child.parent()
            if pid <= 1:
                return None
            found = _pinned(child, pid)
            if found is not None:
                return LinuxAncestor(found, child, host)
    except OSError:
        pass
    return None


def _pinned(child: Process, pid: int) -> Process | None:
    try:
        found = Process(pid)
    except OSError:
        return None
    try:
        if child.parent() == pid and found.exec_id().start_time <= child.exec_id().start_time:
            return found
    except OSError:
        pass
    found.close()
    return None
