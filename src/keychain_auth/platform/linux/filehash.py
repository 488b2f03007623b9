"""SHA-256 of an opened file, and whether the answer may be remembered.

The answer may be remembered under the file's key (device, inode, size, mtime, ctime) only if the content cannot change
without the key changing. Two things could break that:

* A writer that mapped the file before it was hashed: a page that is dirty already can be written again without a new
  ctime. So nobody may have had the file open for writing while it was hashed. A read lease says that: F_SETLEASE with
  F_RDLCK is refused while there is a writer, and taken back when one comes (fcntl(2)). The lease must be there
  before and after. It needs no help from ETXTBSY, which Linux 6.11 and 6.12 do not give.
  A file that only root can write, in folders that only root can write, needs no lease.
* Two changes within one tick of the clock that stamps ctime (up to 10 ms): a file whose ctime is younger than two
  seconds is hashed again each time.

After that, whoever opens the file for writing changes its ctime with the first byte.

What this does not promise: two ways past it are known for files that this user can write (pages pinned by a read into
a mapping from a FUSE server that answers late; EXT4_IOC_MOVE_EXT). docs/threat-model.md lists them as open.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Collection

from keychain_auth.identity.facts import FileKey
from keychain_auth.platform.base import Digest, FileTooLarge, Pace
from keychain_auth.platform.linux.procfs import path_of
from keychain_auth.platform.linux.syscalls import statx_descriptor
from keychain_auth.platform.posix.ownership import only_root_writes
from keychain_auth.platform.signed_file import examine, without_rest

_SETTLED_NS = 2_000_000_000


def digest(fd: int, limit: int, pace: Pace = without_rest, *, nosuid: bool, keys: Collection[bytes] = ()) -> Digest:
    """Hash the file behind the readable descriptor ``fd``, in constant memory; ``pace`` is called after each MiB.

    The public ``keys`` are those that may have signed it.

    ``nosuid``: it lies on a mount where what seems to be root's may be anybody's.

    Raises FileTooLarge (before a byte is read, if the size says so), OSError, and what ``pace`` raises.
    """
    before = statx_descriptor(fd)
    if before.size > limit:
        raise FileTooLarge(f"{before.size} bytes; the daemon hashes up to {limit}")
    leased = _take_lease(fd)
    try:
        examined = examine(fd, before.size, keys, limit, pace)
        of_root = not nosuid and only_root_writes(path_of(fd))
        unwritten = (leased and _has_lease(fd)) or of_root
    finally:
        if leased:
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    after = statx_descriptor(fd)
    settled = time.time_ns() - after.ctime_ns > _SETTLED_NS
    key = FileKey(after.device, after.inode, after.size, after.mtime_ns, after.ctime_ns)
    return Digest(
        key,
        examined.sha256,
        of_root=of_root,
        keep=unwritten and settled and before == after,
        signature=examined.signature,
        tried=frozenset(keys) if examined.is_signed else None,
    )


def _take_lease(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError:  # a writer is there (EAGAIN), or the file is not ours (EACCES), or no leases here (EINVAL)
        return False
    return True


def _has_lease(fd: int) -> bool:
    return fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_RDLCK
