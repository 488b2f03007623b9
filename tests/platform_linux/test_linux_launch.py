"""Trees as they lie on the disk, Yama, and sockets in the words of the kernel."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from keychain_auth.identity.tree import digest
from keychain_auth.platform.linux import tree
from keychain_auth.platform.linux.descriptors import SocketDiagnosis
from keychain_auth.platform.linux.launch import forbidden_by


def digest_of(folder: Path, *, python: bool = True) -> str:
    return digest(tree.listing(tree.survey(str(folder), python=python), lambda item: Path(item.path).read_text()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "package").mkdir(parents=True)
    (tmp_path / "tree" / "package" / "a.py").write_text("a")
    (tmp_path / "tree" / "link").symlink_to("package/a.py")
    return tmp_path / "tree"


def test_everything_in_a_tree_counts_but_bytecode(folder: Path) -> None:
    seen = {digest_of(folder)}
    (folder / "package" / "__pycache__").mkdir()
    (folder / "package" / "__pycache__" / "a.cpython-311.pyc").write_text("x")
    assert digest_of(folder) in seen
    for change in (
        (folder / "new").mkdir,
        lambda: (folder / "package" / "a.py").write_text("b"),
        lambda: (folder / "package" / "b.so").write_text("b"),
        lambda: (folder / "package" / "b.so").rename(folder / "b.so"),
        lambda: os.mkfifo(folder / "pipe"),
        lambda: ((folder / "link").unlink(), (folder / "link").symlink_to("package")),
    ):
        change()
        assert digest_of(folder) not in seen
        seen.add(digest_of(folder))


def test_cached_bytecode_does_not_count_for_python_and_does_for_others(folder: Path) -> None:
    cache = folder / "package" / "__pycache__"
    before = digest_of(folder)
    cache.mkdir()
    assert digest_of(folder) == before != digest_of(folder, python=False)
    empty = digest_of(folder, python=False)
    for name in ("a.cpython-311.pyc", "a.cpython-313.opt-2.pyc", "a.pypy310.pyc", "a.cpython-311.pyc.139872"):
        (cache / name).write_text("x")
        assert digest_of(folder) == before
    assert digest_of(folder, python=False) != empty


def make_link(path: Path) -> None:
    path.symlink_to("../a.py")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("__init__.py", Path.touch),
        ("__init__.pyc", Path.touch),
        ("a.py", Path.touch),
        ("a.so", Path.touch),
        ("a.cpython-311-x86_64-linux-gnu.so", Path.touch),
        ("cpython-311.pyc", Path.touch),
        ("a.cpython-311.pyc.py", Path.touch),
        ("a.cpython-311.pyc\n", Path.touch),
        ("inner", Path.mkdir),
        ("__pycache__", Path.mkdir),
        ("b.cpython-311.pyc", Path.mkdir),
        ("b.cpython-311.pyc", make_link),
    ],
)
def test_what_else_is_in_pycache_counts(folder: Path, name: str, make: Callable[[Path], None]) -> None:
    cache = folder / "package" / "__pycache__"
    cache.mkdir()
    (cache / "a.cpython-311.pyc").touch()
    before, found = digest_of(folder), tree.survey(str(folder), python=True)
    make(cache / name)
    assert digest_of(folder) != before
    assert str(cache / name) in tree.changed(str(folder), found, python=True)


def test_no_link_leads_to_cached_bytecode(folder: Path) -> None:
    cache = folder / "package" / "__pycache__"
    cache.mkdir()
    (cache / "a.cpython-311.pyc").touch()
    for target in ("package/__pycache__", "package/__pycache__/a.cpython-311.pyc", "package/__pycache__/nothing"):
        (folder / "to_cache").symlink_to(target)
        with pytest.raises(tree.TreeRefused, match="leads to cached bytecode"):
            tree.survey(str(folder), python=True)
        tree.survey(str(folder), python=False)
        (folder / "to_cache").unlink()


def test_what_was_changed_and_put_back_shows(folder: Path) -> None:
    before = tree.survey(str(folder), python=True)
    assert tree.changed(str(folder), before, python=True) == ()
    path = folder / "package" / "a.py"
    about = path.stat()
    path.write_text("b")
    path.write_text("a")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert tree.changed(str(folder), before, python=True) == (str(path),)
    before = tree.survey(str(folder), python=True)
    (folder / "evil.so").write_text("")
    (folder / "evil.so").unlink()
    assert tree.changed(str(folder), before, python=True) == (str(folder),)


def test_links_that_lead_out_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "system").symlink_to("/usr/bin/env")  # only root can change that
    tree.survey(str(folder), python=True)
    (folder / "out").symlink_to(tmp_path / "nowhere")  # whoever makes it chooses what is imported
    with pytest.raises(tree.TreeRefused, match="leads out of the tree"):
        tree.survey(str(folder), python=True)


def test_links_that_lead_through_a_link_outside_are_refused(folder: Path, tmp_path: Path) -> None:
    """Whoever can change that one chooses what is imported, and puts it back."""
    (folder / "inner").symlink_to("package")
    (folder / "inner_again").symlink_to("inner/../link")
    tree.survey(str(folder), python=True)
    (tmp_path / "hop").symlink_to(folder / "package")
    (folder / "through").symlink_to("../hop/a.py")
    with pytest.raises(tree.TreeRefused, match="through the link"):
        tree.survey(str(folder), python=True)


def test_a_link_that_leads_to_itself_ends(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")
    tree.survey(str(folder), python=True)


def test_what_is_no_tree(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(tree.TreeRefused, match="neither a folder nor a file"):
        tree.survey(str(tmp_path / "pipe"), python=True)


def test_what_must_not_be_there(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    before = tree.survey(str(nothing), python=True)
    assert before == {}
    assert tree.changed(str(nothing), before, python=True) == ()
    nothing.write_text("")
    assert tree.changed(str(nothing), before, python=True) == (str(nothing),)
    assert digest_of(nothing) != digest({})


@pytest.mark.parametrize(("scope", "refused"), [("0", False), ("1", False), ("2", True), ("3", True), ("?", False)])
def test_yama(tmp_path: Path, scope: str, refused: bool) -> None:
    (tmp_path / "kernel/yama").mkdir(parents=True)
    (tmp_path / "kernel/yama/ptrace_scope").write_text(scope + "\n")
    assert (scope in forbidden_by(str(tmp_path))) is refused
    assert forbidden_by(str(tmp_path / "no-yama")) == ""


def test_where_a_socket_leads(tmp_path: Path) -> None:
    diagnosis = SocketDiagnosis()
    listener, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    with listener, client, socket.socket(socket.AF_INET) as other:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        client.connect(str(tmp_path / "s"))
        inodes = {each: os.fstat(each.fileno()).st_ino for each in (listener, client, other)}
        waits, asks = diagnosis.describe(inodes[listener]), diagnosis.describe(inodes[client])
        assert (waits is not None) and waits.listening and waits.waiting == (inodes[client],)
        assert (asks is not None) and asks.connected and asks.peer == 0
        accepted, _ = listener.accept()
        with accepted:
            waits, asks = diagnosis.describe(inodes[listener]), diagnosis.describe(inodes[client])
            assert (waits is not None) and waits.waiting == ()
            assert (asks is not None) and asks.peer == os.fstat(accepted.fileno()).st_ino
        assert diagnosis.describe(inodes[other]) is None
    diagnosis.close()
