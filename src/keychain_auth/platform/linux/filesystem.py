"""Which mount an opened file lies on, without asking that filesystem.

statfs(2) on a FUSE file asks its server, which may lie or never answer. The mount id of statx(2) and the
table in /proc/PID/mountinfo come from the kernel's own lists (proc_pid_mountinfo(5)).
"""

from __future__ import annotations

import os
import select
import threading
from typing import NamedTuple

from keychain_auth.platform.linux.procfs import open_own_mounts

_MOUNTINFO_BYTES = 4 * 1024 * 1024


class Mount(NamedTuple):
    """``device`` is the filesystem's own number as /proc writes it ("fe:00" is "254:0" here): the one in
    /proc/PID/maps, which on btrfs is another than ``st_dev``. ``nosuid``: the system does not trust what root seems to
    own there (media that a user may bring along are mounted so)."""

    filesystem: str
    device: tuple[int, int]
    nosuid: bool


UNKNOWN = Mount("unknown", (-1, -1), True)


class MountTable:
    """Mount ids to mounts of the daemon's own namespace, read again when an id is unknown.

    An id can be given anew after an unmount, so the table is read again whenever the kernel says that mounts changed:
    /proc/self/mountinfo polls as POLLPRI once for each change (proc_pid_mounts(5)).
    """

    def __init__(self) -> None:
        self._descriptor = open_own_mounts()
        self._changes = select.poll()
        self._changes.register(self._descriptor, select.POLLPRI)
        self._mounts: dict[int, Mount] = {}
        self._one_at_a_time = threading.Lock()

    def close(self) -> None:
        """Close the table's descriptor."""
        os.close(self._descriptor)

    def mount(self, mount_id: int) -> Mount:
        """The mount with this id, or UNKNOWN for one outside of this namespace."""
        with self._one_at_a_time:  # a poll object refuses to be asked by two threads at once
            if self._changes.poll(0) or mount_id not in self._mounts:
                self._mounts = read_mounts(self._descriptor)
            return self._mounts.get(mount_id, UNKNOWN)

    def filesystem_of(self, mount_id: int) -> str:
        """The type ("ext4", "fuse.sshfs", …), or "unknown" for a mount outside of this namespace."""
        return self.mount(mount_id).filesystem


def read_mounts(descriptor: int) -> dict[int, Mount]:
    """The mounts in an opened mountinfo, by id."""
    text = b""
    while (chunk := os.pread(descriptor, _MOUNTINFO_BYTES, len(text))) != b"":
        text += chunk
    mounts = {}
    # Only newline, space, tab and backslash are escaped in a mount point's name (fs/proc_namespace.c), which whoever
    # mounts chooses, and fusermount lets everybody mount: str.splitlines would break a line at a form feed or U+2028.
    for line in text.decode("utf-8", "surrogateescape").split("\n")[:-1]:
        before, _, after = line.partition(" - ")
        number, _, device, _, _, options, *_ = before.split(" ")
        major, _, minor = device.partition(":")
        mounts[int(number)] = Mount(after.split(" ", 1)[0], (int(major), int(minor)), "nosuid" in options.split(","))
    return mounts
