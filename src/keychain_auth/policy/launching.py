"""How a registered script is started: the program, its arguments, and what comes before the script. Pure.

The script comes from a sealed memory file on descriptor 3, never from its path: what was hashed is what runs. Before
it, in the same file, may stand a prelude of ours in the script's language, which gives it its name and arguments, and
keeps it from importing what nobody looked at. The daemon compares all of it with what the kernel shows before the
first instruction, so everything here is one function of the entry.

What a language's own loader takes from elsewhere is kept in hand for Python and Node. Of the others only the script
itself is sure: docs/threat-model.md says so.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from keychain_auth.errors import UsageError
from keychain_auth.identity.tree import Listing
from keychain_auth.model import Entry, Program
from keychain_auth.policy.names import file_name

SCRIPT_FD = 3
# By this name the file is opened anew, and read from its beginning. The position of the descriptor itself is shared
# with whoever else holds it.
_SCRIPT = f"/proc/self/fd/{SCRIPT_FD}"
SCRIPT_VARIABLE = "KEYCHAIN_AUTH_SCRIPT"
MOST_SCRIPT_BYTES = 16 * 1024 * 1024
_NOWHERE = "/dev/null"  # below it nothing can be

_CODE = re.compile(r"f=open\('" + re.escape(_SCRIPT) + r"','rb'\);exec\(f\.read\(\d+\),\{'f':f\}\)")
_PYTHON = re.compile(r"(?:python|pypy)\d")
_NODE = re.compile(r"node(?:js)?(?:-?\d+)?$")
# Flags that keep others from looking where the user can write: gems of the user, functions from the environment, and
# files that are read before the script, from a home or a working directory of the caller's choice.
_FLAGS = (
    (re.compile(r"ruby"), ("--disable-gems",)),
    (re.compile(r"bash$"), ("-p",)),
    (re.compile(r"(?:z|c|tc)sh$"), ("-f",)),
    (re.compile(r"fish$"), ("--no-config",)),
    (re.compile(r"julia$"), ("--startup-file=no",)),
    (re.compile(r"Rscript$"), ("--vanilla",)),
    (re.compile(r"octave"), ("--norc",)),
    (re.compile(r"pwsh$"), ("-NoProfile", "-File")),
)


def as_typed(command_line: str) -> str:
    """A launched Python script and its arguments, without what ``plan`` put before them. Other lines as they are.

    For people to read, of a line that nobody vouches for.
    """
    try:
        words = shlex.split(command_line)
    except ValueError:  # it was cut
        return command_line
    codes = (at for at, word in enumerate(words) if words[at - 1] == "-c" and _CODE.fullmatch(word))
    at = next(codes, None)
    return command_line if at is None else shlex.join(words[at + 1 :])


class Preludes(NamedTuple):
    """The text of the preludes, as the package has them."""

    python: str
    node: str


class Plan(NamedTuple):
    """What is to run. ``argv`` is followed by whatever arguments the person gives; ``prelude`` by the script."""

    interpreter: Program
    argv: tuple[str, ...]
    prelude: bytes
    variables: dict[str, str]


def is_python(interpreter: str) -> bool:
    """Is the program at this path a Python?"""
    return _PYTHON.match(file_name(interpreter)) is not None


def loads_its_library(interpreter: Program) -> bool:
    """Does the interpreter consist of more than its file, and is that in our hands (Python)?"""
    return is_python(interpreter.path)


def plan(entry: Entry, preludes: Preludes, packed: Mapping[str, str]) -> Plan:
    """How the script of ``entry`` is started. ``packed``: what is in each of its trees (``pack``), by the tree's path.

    Raises UsageError if it cannot be.
    """
    if entry.interpreter is None:
        raise UsageError(f"{entry.program.path} is a program of its own: start it as it is")
    program, script = entry.interpreter.path, entry.program.path
    name = file_name(program)
    variables = {SCRIPT_VARIABLE: script}
    if loads_its_library(entry.interpreter):
        prelude = preludes.python.encode() + f"\n_launch(f, {_python_words(entry, packed)})\n".encode()
        code = f"f=open('{_SCRIPT}','rb');exec(f.read({len(prelude)}),{{'f':f}})"
        return Plan(entry.interpreter, (program, *_python_flags(entry), "-c", code, script), prelude, variables)
    if _NODE.match(name):
        if script.endswith(".mjs"):
            raise UsageError(f"{script} is an ES module, and of Node only CommonJS scripts can be launched")
        prelude = preludes.node.encode() + f"\nlaunch({_node_words(entry, packed)});\n".encode()
        code = (
            f"const b=require('fs').readFileSync('{_SCRIPT}');"
            f"const f=new Function('require','process','b',b.toString('utf8',0,{len(prelude)}));"
            f"f(require,process,b.subarray({len(prelude)}))"
        )
        return Plan(entry.interpreter, (program, "-e", code, "--", script), prelude, variables)
    flags = next((flags for pattern, flags in _FLAGS if pattern.match(name)), ())
    return Plan(entry.interpreter, (program, *flags, _SCRIPT), b"", variables)


def _python_flags(entry: Entry) -> tuple[str, ...]:
    """Isolated, and without ``site``. Where a tree may be the interpreter's own library, without its bytecode too."""
    launch = entry.launch
    others = any(not _below(tree.path, launch.imports) for tree in launch.trees)
    return ("-I", "-S", *(("-X", f"pycache_prefix={_NOWHERE}") if others else ()))


def _below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def _python_words(entry: Entry, packed: Mapping[str, str]) -> str:
    """The arguments of the prelude's function, as Python writes them, ASCII only."""
    launch = entry.launch
    trees = {tree.path: packed[tree.path] for tree in launch.trees}
    return ", ".join(ascii(word) for word in (entry.program.path, launch.prefix, launch.imports, trees))


def pack(listing: Listing) -> str:
    """The files and links of a tree, for the prelude: each name and what is there, NUL between; 50 KB a thousand."""
    words = [
        word for name in sorted(listing) if listing[name][:5] in ("file ", "link ") for word in (name, listing[name])
    ]
    return base64.b64encode(zlib.compress("\0".join(words).encode("utf-8", "surrogateescape"))).decode()


def _node_words(entry: Entry, packed: Mapping[str, str]) -> str:
    trees = {tree.path: packed[tree.path] for tree in entry.launch.trees}
    return ", ".join(json.dumps(word) for word in (entry.program.path, trees))
