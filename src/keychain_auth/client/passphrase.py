"""Where the command line gets a passphrase from: the person's own terminal, or a descriptor that was named.

Contract: from nowhere else. Not from stdin (that is where values come from), not from an argument or a variable, which
other programs can read (proc_pid_cmdline(5), proc_pid_environ(5)). It is asked for once in each command. No program
that the command starts or becomes gets that descriptor: a file can be read once more from its beginning. The library
for programs never comes here: it gets ``keychain_locked``, and nobody is asked anything.

Only the standard library: ``keychain-auth get`` may come through here.
"""

from __future__ import annotations

import contextlib
import os
import stat

from keychain_auth.errors import KeychainAuthError, PassphraseNeeded, UsageError

PROMPT = "Passphrase of the vault: "
_OPTION = "--passphrase-fd"
_NEEDED = {"--new-passphrase-fd": "a new passphrase", "--backup-passphrase-fd": "the backup's own passphrase"}
_LONGEST = 4096  # bytes
_LAST_STREAM = 2

_descriptor: int | None = None
_given: str | None = None


def use_descriptor(fd: int | None) -> None:
    """Take the passphrase from the open descriptor ``fd``: its first line. None: ask the person."""
    global _descriptor, _given
    _descriptor, _given = fd, None
    if fd is not None and fd > _LAST_STREAM:
        with contextlib.suppress(OSError):  # what is no descriptor is said where it is read
            os.set_inheritable(fd, False)


def stands_in_a_stream() -> bool:
    """Does a standard stream hold the passphrase, in such a way that who gets the stream can read it again?"""
    if _descriptor is None or _descriptor > _LAST_STREAM:
        return False
    try:
        return stat.S_ISREG(os.fstat(_descriptor).st_mode)
    except OSError:
        return False


def use(words: str) -> None:
    """Take ``words``, which a person typed elsewhere (on a screen of ours), for the passphrase."""
    global _given  # noqa: PLW0603
    _given = words


def forget() -> None:
    """Ask again the next time. A descriptor has its line only once: what came from it stays."""
    global _given  # noqa: PLW0603
    if _descriptor is None:
        _given = None


def present(prompt: str = PROMPT) -> str:
    """The passphrase that is set. Raises PassphraseNeeded if there is no terminal and no descriptor."""
    global _given  # noqa: PLW0603
    if _given is None:
        _given = ask(prompt) if _descriptor is None else read_line(_descriptor)
    return _given


def new(fd: int | None = None, prompt: str = "New passphrase: ", option: str = "--new-passphrase-fd") -> str:
    """A new passphrase: from ``fd``, or asked for twice. ``option`` is what gives ``fd``.

    Raises PassphraseNeeded, UsageError.
    """
    if fd is not None:
        return read_line(fd)
    first = ask(prompt, option)
    if first != ask("The same again: ", option):
        raise UsageError("the two are not the same; nothing was changed")
    return first


def ask(prompt: str, option: str = _OPTION) -> str:
    """Ask on the terminal that this command belongs to, without showing what is typed.

    Raises PassphraseNeeded, which names ``option``, if there is none.
    """
    import getpass  # noqa: PLC0415 - not before somebody is asked

    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))  # else getpass would turn to stdin
    except OSError:
        raise PassphraseNeeded(
            f"{_NEEDED.get(option, 'the passphrase')} is needed, and there is no terminal to ask on",
            hint=f"give it by {option} FD",
        ) from None
    try:
        words = getpass.getpass(prompt)
    except EOFError:
        words = ""
    return _text(words.encode("utf-8", "surrogateescape"))


def read_line(fd: int) -> str:
    """The first line of the descriptor ``fd``, without its newline. Raises UsageError, KeychainAuthError."""
    line = b""
    try:
        while b"\n" not in line and len(line) <= _LONGEST:
            chunk = os.read(fd, 1)  # one at a time: what comes after the line may be somebody else's
            if not chunk:
                break
            line += chunk
    except OSError as error:
        raise KeychainAuthError(f"cannot read the passphrase from descriptor {fd}: {error.strerror}") from None
    return _text(line.removesuffix(b"\n"))


def _text(words: bytes) -> str:
    if len(words) > _LONGEST:
        raise UsageError(f"a passphrase has at most {_LONGEST} bytes")
    try:
        text = words.decode()
    except UnicodeDecodeError:  # its error would show some of it: raised below, outside of the handler
        text = ""
    if not text:
        raise UsageError("a passphrase is text in UTF-8, and not empty")
    return text
