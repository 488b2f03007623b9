"""Which interpreter runs a script: as it was said, as the script's first lines say, or by its suffix.

What comes out is the real file of the interpreter, because that is what the kernel names as the running program.
"""

from __future__ import annotations

import os
import shlex
import shutil

from keychain_auth.cli.shared.programs import File, look_at
from keychain_auth.errors import UsageError
from keychain_auth.policy.interpreters import declared_script, is_interpreter

_FIRST_LINE_BYTES = 256  # the kernel itself reads no more of it (BINPRM_BUF_SIZE)
# pip and uv begin a script so where the path of its Python has a space, or is too long for a first line: a shell
# executes the second line, and Python takes it for a string.
_FOR_SHELLS = b"'''exec' "
# On Windows nothing is started by its first line, and Python has no number in its name.
_OF_WINDOWS = os.name == "nt"
_BY_SUFFIX = {".py": "python" if _OF_WINDOWS else "python3", ".js": "node", ".mjs": "node", ".cjs": "node", ".sh": "sh"}


def interpreter_of(script: File, given: str | None) -> tuple[File, list[str]]:
    """The interpreter, and the flags that the script's first line gives it.

    ``given``: what the person named, a path or a name on PATH. Raises UsageError if it cannot be told or is no
    interpreter, NotFound if it does not exist.
    """
    words = [given] if given is not None else (not _OF_WINDOWS and _shebang(script)) or _by_suffix(script)
    file = look_at(_on_path(words[0], script))
    if file.is_script:  # a version manager's shim, which runs the real one later
        raise UsageError(
            f"{file.program.path} is a script itself (a version manager's?), not an interpreter",
            hint=_say_which(script),
        )
    if not is_interpreter(file.program.path):
        raise UsageError(f"{file.program.path} is no interpreter that keychain-auth knows", hint=_say_which(script))
    return file, words[1:]


def starts_declared(script: File, interpreter: File, flags: list[str]) -> bool:
    """Will the daemon recognise the script when it is started by its first line?"""
    path = script.program.path
    return declared_script(interpreter.program.path, (interpreter.program.path, *flags, path)) == path


def _shebang(script: File) -> list[str]:
    """The words of the first line after ``#!``, without ``env`` or a shell that leads on; empty if there is none."""
    if not script.head.startswith(b"#!"):
        return []
    first, _, rest = script.head.partition(b"\n")
    words = os.fsdecode(first[2:_FIRST_LINE_BYTES]).split()
    if words and os.path.basename(words[0]) == "env":
        words = _after_env(words[1:])
    elif words == ["/bin/sh"] and rest.startswith(_FOR_SHELLS):
        words = _after_exec(os.fsdecode(rest.partition(b"\n")[0]))
    if not words:
        raise UsageError(f"the first line of {script.program.path} names no interpreter", hint=_say_which(script))
    return words


def _after_env(words: list[str]) -> list[str]:
    """What ``env`` runs: after its -S and the variables that it sets. Nothing if it is called in another way."""
    rest = list(words)
    while rest and (rest[0] in ("-S", "--split-string") or "=" in rest[0].partition("/")[0]):
        rest.pop(0)
    return [] if rest and rest[0].startswith("-") else rest


def _after_exec(line: str) -> list[str]:
    """What a script of a virtual environment starts itself anew by; nothing if that is only known when it runs."""
    try:
        words = shlex.split(line)
    except ValueError:
        return []
    return [] if words[-2:] != ["$0", "$@"] or "$" in line.replace("$0", "").replace("$@", "") else words[1:-2]


def _by_suffix(script: File) -> list[str]:
    name = _BY_SUFFIX.get(os.path.splitext(script.program.path)[1])
    if name is None:
        raise UsageError(f"nothing in {script.program.path} says which interpreter runs it", hint=_say_which(script))
    return [name]


def _on_path(word: str, script: File) -> str:
    if os.path.dirname(word):
        return word
    found = shutil.which(word)
    if found is None:
        raise UsageError(f"the interpreter {word} is not on your PATH", hint=_say_which(script))
    return found


def _say_which(script: File) -> str:
    return f"keychain-auth register --script {shlex.quote(script.typed)} --interpreter INTERPRETER"
