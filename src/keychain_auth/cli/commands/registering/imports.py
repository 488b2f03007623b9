"""What a script imports beside itself: asked of its interpreter when it is registered, and recorded with the entry.

For Python the interpreter itself says where it looks (``sys.path`` after its ``.pth`` files), isolated from the
environment. What others than root can change of it becomes a tree of the entry, with a digest over all that is in it; a
side file keeps the digests of the single files, so that the daemon can name those that changed. For Node the folders
are those that the person names. Of other languages only the script is recorded.

To ask an interpreter is to run it, and which one it is may be the word of who waits for approval. So it gets nothing
of the person's terminal; and in system mode, where a command can read the vault's key, only one is run
that root alone could have put there.

What it does not promise: anything about what an interpreter of the person's own account does when it is asked.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterable
from typing import NamedTuple

import keychain_auth
from keychain_auth import files
from keychain_auth.daemon.places import Places
from keychain_auth.errors import KeychainAuthError, NotFound, UsageError
from keychain_auth.identity.tree import digest
from keychain_auth.model import Entry, Launch
from keychain_auth.platform import paths, trees
from keychain_auth.platform.place import only_root_writes
from keychain_auth.policy.edit import Document
from keychain_auth.policy.launching import is_python
from keychain_auth.policy.parse import Policy

_SECONDS = 60.0
_NO_TREE = "keychain-auth register --script --allow-declared PATH"
_LARGEST = 1 << 40
_NODE = re.compile(r"node(?:js)?(?:-?\d+)?$")
_ASK = """
import json, site, sys
with open("/proc/self/maps") as lines:
    words = [line.split(None, 5) for line in lines]
mapped = sorted({line[5].rstrip("\\n") for line in words if len(line) > 5 and "x" in line[1] and line[5][0] == "/"})
prefix = sys.prefix if sys.prefix != sys.base_prefix else ""
print(json.dumps({"prefix": prefix, "path": sys.path, "sites": site.getsitepackages(), "mapped": mapped}))
"""


class _Answer(NamedTuple):
    """What an interpreter says of itself: its environment's folder, where it imports from, which of that are
    ``site-packages``, and the files it has mapped to run."""

    prefix: str
    path: list[str]
    sites: list[str]
    mapped: list[str]


def launch_document(places: Places, interpreter: str, python: str, folders: Iterable[str]) -> Document:
    """The field ``launch`` of an entry: what the script may import. Writes the side files.

    ``interpreter`` is the real file, ``python`` the name by which it is started (that of a virtual environment), and
    ``folders`` are those that the person added. Raises KeychainAuthError, OSError.
    """
    if not trees.RECORDED:
        if any(folders):
            raise UsageError(
                "no script is launched on this system, so nothing that it imports is recorded", hint=_NO_TREE
            )
        return {}
    added = list(dict.fromkeys(_folder(folder) for folder in folders))
    if is_python(interpreter):
        return _python(places, interpreter, python, added)
    if not added:
        return {}
    if not _NODE.match(os.path.basename(interpreter)):
        raise UsageError(f"of a script that {interpreter} runs nothing but itself is looked at: leave --tree out")
    return {"trees": _trees(places, added, python=False)}


def renewed(places: Places, interpreter: str, launch: Launch) -> Document:
    """The same field once more, for files that have changed. Raises as ``launch_document``."""
    python = os.path.join(launch.prefix, "bin", "python") if launch.prefix else interpreter
    return launch_document(places, interpreter, python, _added(interpreter, launch))


def is_importer(entry: Entry) -> bool:
    """Does this script import what this command is made of, so that an upgrade of the package changes it?"""
    if entry.interpreter is None:
        return False
    here = os.path.dirname(os.path.dirname(os.path.realpath(keychain_auth.__file__)))
    return any(os.path.realpath(tree.path) == here for tree in entry.launch.trees)


def python_of(entry: Entry) -> str | None:
    """What a script that is known was registered to run by, if it is still there: the name in its virtual environment,
    or the file itself."""
    if entry.interpreter is None:
        return None
    launch = entry.launch
    name = os.path.join(launch.prefix, "bin", "python") if launch.prefix else entry.interpreter.path
    return name if os.path.exists(name) else None


def kept(entry: Entry | None, interpreter: str) -> list[str]:
    """The folders that a person added to ``entry`` before, as far as they mean something to ``interpreter``."""
    if entry is None or entry.interpreter is None or _kind(entry.interpreter.path) != _kind(interpreter):
        return []
    return _added(interpreter, entry.launch)


def _kind(interpreter: str) -> str:
    name = os.path.basename(interpreter)
    return "python" if is_python(interpreter) else "node" if _NODE.match(name) else name


def _added(interpreter: str, launch: Launch) -> list[str]:
    if _kind(interpreter) == "python":
        return [path for path in launch.imports if not path.endswith("-packages") and os.path.isdir(path)]
    return [each.path for each in launch.trees if os.path.isdir(each.path)]


def _python(places: Places, interpreter: str, python: str, added: list[str]) -> Document:
    answer = _ask(python)
    sites = [os.path.realpath(folder) for folder in answer.sites if os.path.isdir(folder)]
    imports = list(dict.fromkeys([*added, *sites]))
    looked_in = (os.path.realpath(path) for path in answer.path)
    loaded = (path for path in answer.mapped if path != interpreter and os.path.exists(path))
    roots = dict.fromkeys([*imports, *looked_in, *loaded, *_landmarks(interpreter)])
    changeable = [root for root in roots if _changeable(root)]
    document: Document = {"imports": imports, "trees": _trees(places, changeable, python=True)}
    if answer.prefix:
        document["prefix"] = os.path.realpath(answer.prefix)
    return document


def _landmarks(interpreter: str) -> list[str]:
    """Files by which an interpreter finds its library (Modules/getpath.py). Mostly they are not there, and must not
    come."""
    folder = os.path.dirname(interpreter)
    names = ("pyvenv.cfg", "pybuilddir.txt", os.path.basename(interpreter) + "._pth")
    return [*(os.path.join(folder, name) for name in names), os.path.join(os.path.dirname(folder), "pyvenv.cfg")]


def _changeable(path: str) -> bool:
    """Can others than root change what is at ``path``, or put something there?"""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return not only_root_writes(path)


def _require_roots(python: str) -> None:
    """In system mode: that nobody but root could have put there what runs when ``python`` does. Raises
    KeychainAuthError."""
    if not paths.is_system():
        return
    named = os.path.abspath(python)  # of a virtual environment a link, beside whose folder stands what it loads
    home = os.path.dirname(os.path.dirname(named))
    runs = [os.path.realpath(python), os.path.join(os.path.realpath(os.path.dirname(named)), os.path.basename(named))]
    if os.path.lexists(os.path.join(home, "pyvenv.cfg")):
        runs += [os.path.realpath(path) for path in glob.glob(os.path.join(glob.escape(home), "lib*/python*/*"))]
        runs.append(os.path.join(os.path.realpath(home), "pyvenv.cfg"))
    for path in runs:
        if not only_root_writes(path):
            raise KeychainAuthError(
                f"{python} is not run here to say what it imports from: others than root can change {path}, and this "
                "command can read the keys of all users; nothing was changed",
                hint="register the script with --interpreter, and one that root installed, such as /usr/bin/python3",
            )


def _ask(python: str) -> _Answer:
    _require_roots(python)
    try:
        done = subprocess.run(
            [python, "-I", "-c", _ASK], env={"PATH": os.defpath}, cwd="/", stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=True, timeout=_SECONDS, start_new_session=True,
        )  # fmt: skip
        answer = json.loads(done.stdout.splitlines()[-1])
        return _Answer(answer["prefix"], answer["path"], answer["sites"], answer["mapped"])
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError) as error:
        raise KeychainAuthError(f"{python} does not say what it imports from: {error}") from None


def _trees(places: Places, roots: list[str], *, python: bool) -> list[Document]:
    """The outermost of ``roots``, each with its digest."""
    outermost = [root for root in roots if not any(root != other and _inside(root, other) for other in roots)]
    return [{"path": root, "hash": f"sha256:{_recorded(places, root, python)}"} for root in sorted(outermost)]


def _recorded(places: Places, root: str, python: bool) -> str:
    """The digest of the tree; its listing is in a side file of that name then."""
    try:
        found = trees.survey(root, python=python)
        listing = trees.listing(found, lambda item: trees.hash_found(item, _LARGEST).sha256)
    except trees.TreeRefused as refused:
        raise KeychainAuthError(
            f"{refused}: what is imported through it could not be verified", hint=f"ls -l {shlex.quote(root)}"
        ) from None
    made = digest(listing)
    files.make_private_dir(places.trees)
    files.replace(os.path.join(places.trees, f"{made}.json"), json.dumps(listing).encode())
    return made


def forget_unused(places: Places, present: Policy) -> None:
    """Remove the side files that no entry of the policy refers to."""
    used = {f"{each.sha256}.json" for entry in present.by_program.values() for each in entry.launch.trees}
    with contextlib.suppress(OSError):  # they only name files: what stays is no harm
        for name in set(os.listdir(places.trees)) - used:
            os.unlink(os.path.join(places.trees, name))


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _folder(typed: str) -> str:
    real = os.path.realpath(typed)
    if not os.path.isdir(real):
        raise NotFound(f"{typed} is no folder")
    return real
