"""The looks of strict mode: code that was changed in memory, threads that are traced, others that hold the connection.

Facts: a page of a private file mapping that was written is a copy of its own, and counted as "Anonymous" in
/proc/PID/smaps (or as "Swap", once it went there; proc_pid_smaps(5)). "Private_Dirty" would count pages of a file that
was only just written to disk. Each thread has its own tracer (/proc/PID/task/TID/status).

What this does not promise: that nobody holds the peer end in a message that is under way between two sockets, or in a
process that does not let its own user look at it; and changes that were taken back before the look.
"""

from __future__ import annotations

import contextlib
import os
import re

from keychain_auth.platform.linux.procfs import Status, open_files, pids, read_whole

_MOST_BYTES = 64 * 1024 * 1024
_HEAD = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ ..x. \S+ \S+ \d+\s+(/.*|\[vdso\])$")
_COPIED = (b"Anonymous:", b"Swap:")


def patched_file(process_folder: int) -> str:
    """The path of a file whose mapped code was changed in memory, "" if there is none. Raises OSError."""
    path = b""
    # Not splitlines: of the name of a file only the newline is escaped there, not "\r".
    for line in read_whole(process_folder, "smaps", _MOST_BYTES, piece_bytes=1024 * 1024).split(b"\n"):
        if line[:1] in b"0123456789abcdef":  # the head of a mapping; its fields begin with capital letters
            match = _HEAD.match(line)
            path = match.group(1) if match else b""
        elif path and line.startswith(_COPIED) and int(line.split()[1]):
            return os.fsdecode(path)
    return ""


def is_traced(process_folder: int) -> bool:
    """Is any thread of the process traced? Raises OSError when it is gone."""
    folder = os.open("task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=process_folder)
    try:
        statuses = (read_whole(folder, f"{thread}/status", _MOST_BYTES) for thread in os.listdir(folder))
        return any(Status(status).tracer for status in statuses)
    finally:
        os.close(folder)


def holders(inode: int, pid: int) -> tuple[int, ...]:
    """The other processes that have the socket ``inode`` open, as far as this user may look."""
    wanted = f"socket:[{inode}]"
    found = []
    for other in pids():
        if other != pid:
            with contextlib.suppress(OSError):  # it ended, or is not ours to look at
                if wanted in open_files(other):
                    found.append(other)
    return tuple(found)
