"""Files as Linux shows them: what they are, where they lie, who can change them, what their hash is worth."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import mmap
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap

import pytest

from keychain_auth.platform.base import FileTooLarge
from keychain_auth.platform.linux.filehash import digest
from keychain_auth.platform.linux.filesystem import Mount, MountTable, read_mounts
from keychain_auth.platform.linux.reach import reaches
from keychain_auth.platform.linux.syscalls import open_cached, open_regular, statx_descriptor
from keychain_auth.platform.posix.ownership import writable_by_others
from support import users


def test_statx_agrees_with_stat() -> None:
    fd = os.open(sys.executable, os.O_RDONLY)
    try:
        about, known = statx_descriptor(fd), os.fstat(fd)
    finally:
        os.close(fd)
    assert about[:7] == (
        known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns, known.st_ctime_ns, known.st_uid, known.st_mode
    )  # fmt: skip


@pytest.mark.skipif(users.stranger() is None, reason="only root can try what another user may open")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_user_reaches_is_what_the_kernel_lets_him_open(stranger: users.Account, kind: str) -> None:
    """Every mode, as owner, in the group, by a further group, and as one of the others."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o755)
        _compare_with_the_kernel(pathlib.Path(made), stranger, kind)


def _compare_with_the_kernel(tmp_path: pathlib.Path, stranger: users.Account, kind: str) -> None:
    further = 54321
    paths = []
    for who, (uid, gid) in {
        "own": (stranger.uid, 0),
        "group": (0, stranger.gid),
        "more": (0, further),
        "none": (0, 0),
    }.items():
        for mode in range(0o1000):
            if mode & 0o022:  # writing is another matter
                continue
            folder = tmp_path / f"{who}-{mode:03o}"
            folder.mkdir()
            file = folder / "file"
            file.touch()
            odd = folder if kind == "folder" else file
            os.chown(odd, uid, gid)
            (folder if kind == "file" else file).chmod(0o755)
            odd.chmod(mode)
            paths.append(str(file))
    link = tmp_path / "link"
    link.symlink_to(f"../{tmp_path.name}/own-500")
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    paths += [
        f"{link}/file",
        f"{tmp_path}/./own-500/../own-400/file",
        str(loop),
        str(tmp_path / "missing"),
        "/etc/shadow",
    ]
    code = "import os, sys\nfor path in sys.stdin.read().split('\\n'):\n" + textwrap.indent(
        "try:\n    os.close(os.open(path, os.O_RDONLY))\n    print(1)\nexcept OSError:\n    print(0)", "    "
    )
    kernel = subprocess.run(
        ["/usr/bin/env", "python3", "-c", code], input="\n".join(paths), capture_output=True, text=True, check=True,
        user=stranger.uid, group=stranger.gid, extra_groups=[further],
    ).stdout.split()  # fmt: skip
    root = os.open("/", os.O_PATH)
    try:
        ours = [reaches(os.fsencode(path), root, stranger.uid, {stranger.gid, further}) for path in paths]
        assert reaches(b"etc/shadow", root, 0, ())
        assert not reaches(b"etc/../" * 1000 + b"etc/passwd", root, stranger.uid, ())  # no path has so many names
    finally:
        os.close(root)
    assert [path for path, one, other in zip(paths, ours, kernel, strict=True) if one != bool(int(other))] == []
    assert set(ours) == {True, False}


def test_a_mount_point_cannot_end_its_line_early() -> None:
    """Everybody may mount with fusermount, and of its name only newline, space, tab and backslash are escaped."""
    odd = "9 1 0:9 / /home/u/a\fb\u2028c\rd\x85e rw,nosuid - fuse.x x rw\n"
    with tempfile.TemporaryFile() as table:
        table.write(odd.encode() + b"8 1 0:8 / / rw - ext4 /dev/vda rw\n")
        table.flush()
        assert read_mounts(table.fileno()) == {9: Mount("fuse.x", (0, 9), True), 8: Mount("ext4", (0, 8), False)}


def test_what_is_no_regular_file_is_not_even_opened(tmp_path: pathlib.Path) -> None:
    """Whoever names a script chooses the path, and to open a device can be an act that the daemon may do.

    inotify(7) tells of every open but those that only look (O_PATH).
    """
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("a script")
    os.symlink("file", tmp_path / "link")
    libc = ctypes.CDLL(None)
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    libc.inotify_add_watch(watch, os.fsencode(tmp_path), 0x20)  # IN_OPEN
    try:
        with pytest.raises(OSError, match="Invalid"):
            open_regular(os.fsencode(tmp_path / "pipe"))
        with pytest.raises(OSError, match="Invalid"):
            open_regular(b"/dev/null")
        with pytest.raises(OSError, match="Invalid"):
            open_regular(os.fsencode(tmp_path / "link"), follow=False)
        with pytest.raises(BlockingIOError):
            os.read(watch, 4096)
        os.close(os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK))  # as others do it
        assert b"pipe" in os.read(watch, 4096)
        fd = open_regular(os.fsencode(tmp_path / "link"))
        assert os.read(fd, 100) == b"a script"
        assert not os.get_inheritable(fd)
        os.close(fd)
    finally:
        os.close(watch)


def test_mounts_are_known_by_their_id() -> None:
    table = MountTable()
    try:
        for path, expected in (("/proc/self", "proc"), ("/sys", "sysfs")):
            fd = os.open(path, os.O_PATH)
            assert table.filesystem_of(statx_descriptor(fd).mount_id) == expected
            os.close(fd)
        assert table.filesystem_of(0x7FFFFFFF) == "unknown"
    finally:
        table.close()


def test_open_cached_opens_what_is_known_and_nothing_through_magic_links() -> None:
    os.stat("/usr/bin/env")
    fd = open_cached(b"/usr/bin/env")
    assert statx_descriptor(fd).inode == os.stat("/usr/bin/env").st_ino
    os.close(fd)
    with pytest.raises(OSError, match=r"symbolic links|temporarily unavailable"):
        open_cached(b"/proc/self/exe")


class TestHash:
    """Whether a hash may be remembered."""

    @pytest.fixture
    def path(self, tmp_path: object) -> str:
        name = os.path.join(str(tmp_path), "file")
        with open(name, "wb") as file:
            file.write(b"content" * 1000)
        return name

    @staticmethod
    def digest_of(path: str, *, aged: bool = True, limit: int = 10**6) -> tuple[str, bool]:
        """With ``aged`` the clock of the hash stands five seconds later: nobody can set a ctime back."""
        import keychain_auth.platform.linux.filehash as module

        clock = module.time.time_ns
        module.time.time_ns = lambda: clock() + (5_000_000_000 if aged else 0)  # type: ignore[assignment]
        fd = os.open(path, os.O_RDONLY)
        try:
            result = digest(fd, limit, nosuid=False)
            assert fcntl.fcntl(fd, fcntl.F_GETLEASE) == fcntl.F_UNLCK
        finally:
            os.close(fd)
            module.time.time_ns = clock  # type: ignore[assignment]
        return result.sha256, result.keep

    def test_a_settled_file_without_writers_may_be_remembered(self, path: str) -> None:
        expected = hashlib.sha256(b"content" * 1000).hexdigest()
        assert self.digest_of(path) == (expected, True)

    def test_a_fresh_file_may_not(self, path: str) -> None:
        assert self.digest_of(path, aged=False)[1] is False

    def test_a_file_that_somebody_can_still_write_may_not(self, path: str) -> None:
        """The attack: map it for writing, let it be hashed, change a page that is dirty already. The key stays."""
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[0:1] = b"X"  # dirty before the hash
            before = statx_descriptor(file.fileno())
            naive, keep = self.digest_of(path)
            mapped[0:1] = b"Y"
            after = statx_descriptor(file.fileno())
            with open(path, "rb") as again:
                now = hashlib.sha256(again.read()).hexdigest()
            assert before == after  # a cache by key alone would now vouch for content that is gone
            assert naive != now
            assert keep is False

    def test_a_file_beyond_the_limit_is_not_read(self, path: str) -> None:
        os.truncate(path, 2 * 1024**3)
        with pytest.raises(FileTooLarge):
            self.digest_of(path, limit=1024**3)


def test_the_first_writable_place_is_named(tmp_path: object) -> None:
    folder = os.path.join(str(tmp_path), "a", "b")
    os.makedirs(folder)
    path = os.path.join(folder, "app.py")
    with open(path, "w") as file:
        file.write("x")
    me = os.geteuid()
    os.chmod(path, 0o644)
    os.chmod(folder, 0o755)
    assert writable_by_others(path, me) == ""
    os.chmod(folder, 0o775)
    assert writable_by_others(path, me) == folder
    os.chmod(folder, 0o1777)  # sticky: others may add files, not exchange this one
    assert writable_by_others(path, me) == ""
    os.chmod(path, 0o666)
    assert writable_by_others(path, me) == path
    os.chmod(path, 0o644)
    if me == 0:
        os.chown(path, 12345, -1)
        assert writable_by_others(path, 54321) == path
        assert writable_by_others(path, 12345) == ""
