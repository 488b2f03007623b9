"""Which programs are interpreters: files whose own hash says nothing about what they run.

Registering ``python3`` would register every Python script of the machine, the package's install hook
included. So an interpreter is never granted by its own hash alone, neither by ``register`` nor by a line
that somebody wrote into config.json.

What this does not promise: the list goes by file name. A copy of an interpreter under another name is a program
that a person registered knowingly.
"""

from __future__ import annotations

import functools
import re

from keychain_auth.policy.names import file_name, is_of_windows

# Here too: the dynamic loader and the wrappers, which run whatever follows; tools that load code that an argument names
# (make, openssl, sqlite3, ld, kitty); relays, which would lend their name to whoever speaks through them.
_NAMES = re.compile(
    r"""(?x)^(?:
      (?:python|pypy)\d*(?:\.\d+)*[tdm]{0,2} | node(?:js)?(?:-?\d+)? | deno | bun | npx? |
      ruby\d*(?:\.\d+)* | perl\d*(?:\.\d+)*(?:-.*)? | php(?:-cgi|-fpm)?\d*(?:\.\d+)* |
      lua(?:jit)?(?:-?\d+.*)? | tclsh\d*(?:\.\d+)* | wish\d*(?:\.\d+)* | expect | guile(?:-?\d+.*)? |
      (?:r|z|c|tc|k|mk|da|ba|fi|a)?sh(?:-static)? | busybox(?:-static)? | toybox | pwsh | powershell |
      java | jshell | jrunscript | dotnet | mono | erl | beam\.smp | elixir | julia | racket | sbcl | clisp |
      Rscript | R | octave(?:-cli)? | gs | sqlite3 | psql | mysql |
      (?:[gmn]|original-)?awk | sed | emacs(?:-.*)? | vim?(?:\..*)? | nvim | gdb(?:-multiarch)? | lldb(?:-\d+)? |
      g?make | openssl | perf | lli(?:-\d+)? | llvm-jitlink(?:-\d+)? | opt(?:-\d+)? | ld(?:\.\w+)? | nm |
      ld-linux.*\.so\.\d+ | ld-musl-.*\.so\.\d+ | ld(?:64)?\.so(?:\.\d+)? | ld-\d.*\.so |
      qemu-.* | wine.* | valgrind.* | socat\d? | websocat | nc(?:\..*)? | ncat | gpg-connect-agent |
      electron\d* | kitty | blender | tcc | raku | swipl | ocaml(?:run)? | runghc | gforth |
      env | nohup | setsid | timeout | xargs | sudo | strace | unshare | nsenter | setpriv
    )$"""
)


# Of Windows only, where names are compared without regard to case, and so are the ones above.
_WINDOWS_NAMES = re.compile(
    r"(?:cmd|[cw]script|mshta|rundll32|regsvr32|msbuild|installutil|conhost|pyw?|pythonw\d*|powershell_ise|rscript|r)$"
)


@functools.lru_cache(maxsize=256)  # asked several times for each connection, and so many names take 3 µs
def is_interpreter(path: str) -> bool:
    """True if the file name of ``path`` is that of an interpreter, a loader or a program that runs others."""
    name = file_name(path)
    return _NAMES.match(name) is not None or (is_of_windows(path) and _WINDOWS_NAMES.match(name) is not None)


# Of these the form of the command line is known: flags that change neither which file runs nor what it imports from
# elsewhere. Whatever is not here (-c, -m, -e, -i, -x, --require, …) means that the command line declares no script.
_PYTHON_FLAGS = frozenset(("-I", "-s", "-E", "-S", "-B", "-u", "-O", "-OO", "-P", "-b", "-bb", "-q", "-v", "-d"))
_SHELL_FLAGS = frozenset(("-e", "-u", "-x", "-eu", "-ex", "-ux", "-eux"))
_PYTHON_OF_WINDOWS = re.compile(r"(?:python|pypy3?)w?$")  # there it has no number, and behind it stands no other
_GRAMMARS = (
    (re.compile(r"(?:python|pypy)\d"), _PYTHON_FLAGS),
    (re.compile(r"(?:z|k|mk|da|ba|a)?sh(?:-static)?$"), _SHELL_FLAGS),
    (re.compile(r"perl"), frozenset(("-w", "-T", "-t", "-W"))),
    (re.compile(r"ruby"), frozenset(("-w", "-W0", "-W1", "-W2"))),
    (re.compile(r"node"), frozenset[str]()),
)


def declared_script(interpreter_path: str, argv: tuple[str, ...]) -> str | None:
    """The script that a command line declares, or None.

    ``argv`` is declared only in the plain form: interpreter, allowed flags, script, arguments. The answer
    is the word as it stands there; it may be relative to the process's working directory.

    Refused: interpreters whose form is not known; words that an interpreter could read as an option (``+e`` of a
    shell); names below /proc and /dev, which mean another file to the daemon than to the process.
    """
    allowed = _flags_of(interpreter_path)
    if allowed is None:
        return None
    for word in argv[1:]:
        if word in allowed:
            continue
        return word if word and word[0] not in "-+" and not _ELSEWHERE.match(word) else None
    return None


def runs_no_script(interpreter_path: str) -> bool:
    """True for what is no language's interpreter with a known command line: a relay, a wrapper, a loader, a tool."""
    return _flags_of(interpreter_path) is None


def _flags_of(interpreter_path: str) -> frozenset[str] | None:
    name = file_name(interpreter_path)
    if is_of_windows(interpreter_path) and _PYTHON_OF_WINDOWS.match(name):
        return _PYTHON_FLAGS
    return next((flags for pattern, flags in _GRAMMARS if pattern.match(name)), None)


_ELSEWHERE = re.compile(r"/+(?:\./+)*(?:proc|dev)(?:/|$)")
