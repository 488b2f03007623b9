"""Which filesystem an opened file lies on, without asking that filesystem.

statfs(2) on a FUSE file asks its server, which may lie or never answer. The mount id of statx(2) and the
table in /proc/self/mountinfo come from the kernel's own lists (proc_pid_mountinfo(5)).
"""

from __future__ import annotations

import os
import select

_MOUNTINFO_BYTES = 4 * 1024 * 1024


class MountTable:
    """Mount ids to filesystem types, read again when an id is unknown.

    An id can be given anew after an unmount, so the table is read again whenever the kernel says that mounts changed:
    /proc/self/mountinfo polls as POLLPRI once for each change (proc_pid_mounts(5)).
    """

    def __init__(self) -> None:
        self._descriptor = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._changes = select.poll()
        self._changes.register(self._descriptor, select.POLLPRI)
        self._types: dict[int, str] = {}

    def close(self) -> None:
        """Close the table's descriptor."""
        os.close(self._descriptor)

    def filesystem_of(self, mount_id: int) -> str:
        """The type ("ext4", "fuse.sshfs", …), or "unknown" for a mount outside of this namespace."""
        if self._changes.poll(0) or mount_id not in self._types:
            self._types = self._read()
        return self._types.get(mount_id, "unknown")

    def _read(self) -> dict[int, str]:
        text = b""
        while (chunk := os.pread(self._descriptor, _MOUNTINFO_BYTES, len(text))) != b"":
            text += chunk
        types = {}
        for line in text.decode("utf-8", "surrogateescape").splitlines():
            before, _, after = line.partition(" - ")
            types[int(before.split(" ", 1)[0])] = after.split(" ", 1)[0]
        return types
