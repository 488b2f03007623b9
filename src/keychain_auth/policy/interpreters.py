"""Which programs are interpreters: files whose own hash says nothing about what they run.

Registering ``python3`` would register every Python script of the machine, the package's install hook
included. So an interpreter is never granted by its own hash alone, neither by ``register`` nor by a line
that somebody wrote into config.json.

What this does not promise: the list goes by file name. A copy of an interpreter under another name is a program
that a person registered knowingly.
"""

from __future__ import annotations

import re

# The dynamic loader and the wrappers are here too: started by hand they run whatever follows.
_NAMES = re.compile(
    r"""(?x)^(?:
      (?:python|pypy)\d*(?:\.\d+)*[tdm]{0,2} | node(?:js)?(?:-?\d+)? | deno | bun | npx? |
      ruby\d*(?:\.\d+)* | perl\d*(?:\.\d+)* | php\d*(?:\.\d+)* | lua(?:jit)?\d*(?:\.\d+)* |
      tclsh\d*(?:\.\d+)* | wish\d*(?:\.\d+)* | expect | guile\d*(?:\.\d+)* | racket | sbcl | clisp |
      (?:r|z|c|tc|k|mk|da|ba|fi|a)?sh(?:-static)? | busybox(?:-static)? | toybox | pwsh | powershell |
      java | dotnet | mono | erl | beam\.smp | elixir | julia | Rscript | R | octave(?:-cli)? |
      [gmn]?awk | sed | emacs(?:-.*)? | vim?(?:\..*)? | gdb | lldb(?:-\d+)? |
      ld-linux.*\.so\.\d+ | ld-musl-.*\.so\.\d+ | ld(?:64)?\.so(?:\.\d+)? | ld-\d.*\.so |
      qemu-.* | wine.* | valgrind.* |
      env | nohup | setsid | timeout | xargs | sudo | strace | unshare | nsenter | setpriv
    )$"""
)


def is_interpreter(path: str) -> bool:
    """True if the file name of ``path`` is that of an interpreter, a loader or a program that runs others."""
    return _NAMES.match(path.rpartition("/")[2]) is not None


# Flags of each interpreter that change neither which file runs nor what it imports from elsewhere. Whatever is
# not here (-c, -m, -e, -i, -x, --require, …) means that the command line does not declare a script.
_PYTHON_FLAGS = frozenset(("-I", "-s", "-E", "-S", "-B", "-u", "-O", "-OO", "-P", "-b", "-bb", "-q", "-v", "-d"))
_SHELL_FLAGS = frozenset(("-e", "-u", "-x", "-eu", "-ex", "-ux", "-eux", "--"))
_PERL_FLAGS = frozenset(("-w", "-T", "-t", "-W"))
_RUBY_FLAGS = frozenset(("-w", "-W0", "-W1", "-W2"))
_NO_FLAGS: frozenset[str] = frozenset()


def _flags_of(name: str) -> frozenset[str]:
    if name.startswith(("python", "pypy")):
        return _PYTHON_FLAGS
    if re.fullmatch(r"(?:r|z|c|tc|k|mk|da|ba|fi|a)?sh(?:-static)?", name):
        return _SHELL_FLAGS
    if name.startswith("perl"):
        return _PERL_FLAGS
    if name.startswith("ruby"):
        return _RUBY_FLAGS
    return _NO_FLAGS


def declared_script(interpreter_path: str, argv: tuple[str, ...]) -> str | None:
    """The script that a command line declares, or None.

    ``argv`` is declared only in the plain form: interpreter, allowed flags, script, arguments. The answer
    is the word as it stands there; it may be relative to the process's working directory.
    """
    allowed = _flags_of(interpreter_path.rpartition("/")[2])
    for word in argv[1:]:
        if word in allowed:
            continue
        return None if not word or word.startswith("-") else word
    return None
