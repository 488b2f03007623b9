"""``keychain-auth run`` and ``keychain-auth-run``: a command with secrets as variables or on descriptors, and nowhere
else.

Contract:
* All of the values are there, or nothing is started. What is missing is listed whole.
* The command replaces this process (execve(2)): its pid, terminal, signals and exit code are its own. Nothing of this
  one is left but the values. (With ``--mask`` it is a child: ``client.mask``.)
* A value is in no file and in no argument. Nor is the passphrase of the vault in a descriptor that the command gets.

What it does not promise: a process of the same user can read another's environment (proc_pid_environ(5)), and so can
every child of the command; a value on a descriptor (``--fd``) goes to nobody who is not handed it, but /proc/PID/fd is
as open as /proc/PID/environ.

Only the standard library's light parts: this is part of the start of the command.
"""

from __future__ import annotations

import errno
import os
import signal
import sys

from keychain_auth.client import references
from keychain_auth.client.discovery import WAIT_VARIABLE
from keychain_auth.errors import InvalidRequest, KeychainAuthError, NotFound, UsageError, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import NoReturn

    Fetch = Callable[[Mapping[str, references.Reference]], Mapping[str, str]]
    """From names and references to names and values; all of them, or an error."""

_FIRST_FD = 3
_LAST_FD = 255
_PIPE_BYTES = 65536  # what a pipe holds where nothing else is said (pipe(7)); asked for, not assumed


class Order:
    """What the command line says. ``only``: these variables; empty for all. ``descriptors``: a variable or a reference,
    and the number that its value is put on. ``left_behind``: variables that the command does not get. ``wait``: what
    its variable of that name says (``wire.client.checked_wait``); empty leaves it as it is."""

    def __init__(self) -> None:
        self.command: list[str] = []
        self.env_files: list[str] = []
        self.only: list[str] = []
        self.descriptors: list[tuple[str, int]] = []
        self.reason = ""
        self.socket: str | None = None
        self.mask = False
        self.wait = ""
        self.left_behind: tuple[str, ...] = ()


def run(order: Order, fetch: Fetch | None = None) -> NoReturn:
    """Become the command. Returns only by an error: KeychainAuthError, OSError; then nothing was started.

    ``fetch``: gets the values; when left out, as a person's command gets them.
    """
    _require_exec()
    environment = _environment(order)
    program = _find(order.command[0], environment.get("PATH", os.defpath))
    _require_free(number for _, number in order.descriptors)
    wanted = _wanted(environment, order)
    fetch = fetch or (lambda names: references.fetch(names, socket=order.socket, reason=_on_record(order)))
    values = fetch(wanted)
    handed = {}
    for name, number in order.descriptors:
        handed[number] = values[name]
        environment.pop(name, None)
    variables = {name: values.get(name, text) for name, text in environment.items()}
    for name, value in variables.items():
        if "\0" in value:
            raise UsageError(
                f"nothing was started: the value of {name} holds a NUL, which no variable can",
                hint=f"keychain-auth run --fd {quoted(name)}:{_FIRST_FD} …",
            )
    _hand_over(handed)
    if order.mask:
        _mask(program, order.command, variables, values.values())
    _become(program, order.command, variables)


def _require_exec() -> None:
    """Windows has no execve(2): what it calls so starts another process and ends this one at once, without its code."""
    if sys.platform == "win32":
        raise UsageError("nothing was started: there is no run on Windows", hint="keychain-auth get SERVICE TARGET")


def plain_order(words: Sequence[str]) -> Order | None:
    """The order that ``run WORDS`` gives; None if click has something to say about them. Raises UsageError."""
    order = Order()
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "--":
        option, equals, value = rest.pop(0).partition("=")
        if option == "--mask" and not equals:
            order.mask = True
            continue
        if option not in _TAKE_VALUE:
            return None
        if not equals:
            if not rest:
                return None
            value = rest.pop(0)
        _TAKE_VALUE[option](order, value)
    order.command = rest[1:] if rest[:1] == ["--"] else rest
    return order if order.command else None


def _set_only(order: Order, names: str) -> None:
    order.only += [name for name in names.split(",") if name]


_TAKE_VALUE: dict[str, Callable[[Order, str], object]] = {
    "--env-file": lambda order, file: order.env_files.append(file),
    "--only": _set_only,
    "--fd": lambda order, word: order.descriptors.append(parse_descriptor(word)),
    "--reason": lambda order, text: setattr(order, "reason", text),
    "--wait": lambda order, text: setattr(order, "wait", parse_wait(text)),
    "--socket": lambda order, path: setattr(order, "socket", path),
    "-s": lambda order, path: setattr(order, "socket", path),
}


def parse_descriptor(word: str) -> tuple[str, int]:
    """``NAME:3`` or ``keychain://SERVICE/TARGET:3``. Raises UsageError."""
    name, _, number = word.rpartition(":")
    if not name or not number.isdecimal() or not number.isascii() or len(number) > 3:
        raise UsageError(
            f"--fd {word}: NAME:NUMBER is wanted, and a number of {_FIRST_FD} to {_LAST_FD}",
            hint=f"keychain-auth run --fd TOKEN:{_FIRST_FD} …",
        )
    if not _FIRST_FD <= int(number) <= _LAST_FD:
        raise UsageError(f"--fd {word}: the number is {_FIRST_FD} to {_LAST_FD}")
    return name, int(number)


def parse_wait(text: str) -> str:
    """``60s``, ``5m``: as the variable of the client library has it. Raises UsageError."""
    from keychain_auth.wire.client import checked_wait  # noqa: PLC0415 - only who waits needs it

    try:
        checked_wait(text)
    except InvalidRequest as problem:
        raise UsageError(f"--wait {text}: {problem}", hint="keychain-auth run --wait 60s …") from None
    return text


def _environment(order: Order) -> dict[str, str]:
    """The command's environment, references not yet resolved. A file's lines come before what is there already."""
    environment = {name: text for name, text in os.environ.items() if name not in order.left_behind}
    named: dict[str, str] = {}
    for file in order.env_files:
        from keychain_auth.client.dotenv import read  # noqa: PLC0415 - only who has a file needs it

        named.update(read(file))
    if order.only:
        unknown = [name for name in order.only if name not in named and name not in environment]
        if unknown:
            raise NotFound(f"nothing was started: --only names {', '.join(unknown)}, and no such variable is set")
        named = {name: text for name, text in named.items() if name in order.only}
    environment.update(named)
    if order.wait:
        environment[WAIT_VARIABLE] = order.wait
    return environment


def _wanted(environment: Mapping[str, str], order: Order) -> dict[str, references.Reference]:
    """The references to resolve, by the name of their variable. Raises UsageError that lists all that are none."""
    texts = {
        name: text
        for name, text in environment.items()
        if text.startswith(references.SCHEME) and (not order.only or name in order.only)
    }
    problems = []
    for name, _ in order.descriptors:
        if name.startswith(references.SCHEME):
            texts[name] = name
        elif not environment.get(name, "").startswith(references.SCHEME):
            problems.append(f"--fd {name}: no variable of that name holds {references.SCHEME}…")
        else:
            texts[name] = environment[name]
    wanted = {}
    for name, text in texts.items():
        try:
            wanted[name] = references.parse(text)
        except UsageError as problem:
            problems.append(f"{name}: {problem}")
    if problems:
        raise UsageError(f"nothing was started: {'; '.join(problems)}")
    return wanted


def _on_record(order: Order) -> str:
    """What the audit log says of it: the command's name without its arguments, which may carry secrets."""
    name = order.command[0].encode("utf-8", "backslashreplace").decode()
    return f"run {name}: {order.reason}" if order.reason else f"run {name}"


def _find(command: str, path: str) -> str:
    """The file of the command, looked for as execvp(3) does. Raises NotFound: before any secret is asked for."""
    candidates = [command] if "/" in command else [os.path.join(folder or ".", command) for folder in path.split(":")]
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    if any(os.path.exists(candidate) for candidate in candidates):
        raise KeychainAuthError(f"nothing was started: {command} cannot be executed", hint=f"ls -l {quoted(command)}")
    raise NotFound(f"nothing was started: there is no command {command}")


def _require_free(numbers: Iterable[int]) -> None:
    seen = set()
    for number in numbers:
        try:
            os.fstat(number)
        except OSError:
            if number in seen:
                raise UsageError(f"nothing was started: --fd names descriptor {number} twice") from None
            seen.add(number)
            continue
        raise UsageError(f"nothing was started: descriptor {number} is open already", hint="choose another number")


def _hand_over(handed: Mapping[int, str]) -> None:
    """Put each value on its descriptor, at its beginning, to be read (more than once, where the system has memory
    files; from a pipe once)."""
    import fcntl  # noqa: PLC0415 - without --fd nobody needs it

    made = []
    for number, value in handed.items():
        source = _readable(value.encode())
        made.append((fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _LAST_FD + 1), number))
        os.close(source)
    for source, number in made:
        os.dup2(source, number, inheritable=True)
        os.close(source)


def _readable(content: bytes) -> int:
    if not hasattr(os, "memfd_create"):
        return _pipe(content)
    from keychain_auth.platform.memory import sealed  # noqa: PLC0415 - for Linux only

    memory = sealed("secret", content)
    os.lseek(memory, 0, os.SEEK_SET)
    return memory


def _pipe(content: bytes) -> int:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        whole = os.write(writing, content) == len(content) if content else True
    except BlockingIOError:
        whole = False
    os.close(writing)
    if not whole:
        raise UsageError(f"nothing was started: a value of more than {_PIPE_BYTES} bytes does not fit into a pipe")
    return reading


def _mask(program: str, command: Sequence[str], variables: Mapping[str, str], values: Iterable[str]) -> NoReturn:
    from keychain_auth.client.mask import run_masked  # noqa: PLC0415 - only --mask needs subprocess

    raise SystemExit(run_masked(program, command, _encoded(variables), values))


def _encoded(variables: Mapping[str, str]) -> dict[bytes, bytes]:
    """In bytes: a value is UTF-8, whatever the locale's encoding is."""
    return {os.fsencode(name): text.encode("utf-8", "surrogateescape") for name, text in variables.items()}


def _become(program: str, command: Sequence[str], variables: Mapping[str, str]) -> NoReturn:
    # Python ignores these from its start on; the command shall not (signal(7): an exec keeps what is ignored).
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    for stream in (0, 1, 2):  # what stands in the place of a stream that was closed is close-on-exec (cli.report)
        os.set_inheritable(stream, True)
    try:
        os.execve(program, list(command), _encoded(variables))  # noqa: S606 - the point
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise KeychainAuthError(
                "nothing was started: arguments and variables together are longer than the system takes",
                hint="hand long values over by --fd NAME:3",
            ) from None
        raise KeychainAuthError(f"nothing was started: {program}: {error.strerror}") from None
