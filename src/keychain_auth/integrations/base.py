"""What all helpers share: how a helper is started, how it asks the daemon, and what it says when it gets nothing.

A helper is a small program that a tool starts by a name of the tool's choosing (``git-credential-keychain-auth``), and
that speaks the tool's protocol on standard input and output.

Contract:
* **Identity** (ADR 14). A helper asks as a program, over the agent socket, with the
  grants of its own entry; never as a person over the admin socket, which would give every program of the user all that
  the person has. Where scripts can be launched (Linux), the shipped script becomes itself once more through
  ``client.launch``, so that the daemon knows it at grade ``launched``, whoever started it and with what environment.
  Elsewhere it asks as it was started (``declared``).
* **Three things when it fails**, one line each, on standard error alone: what was wanted, why not, the command that
  mends it. Standard output belongs to the tool's protocol. The exit code is that of the command line.
* **Never a prompt.** Nothing here reads a terminal, and a locked keychain is told at once.

What it does not promise: that the tool it was made for is the one that started it. A helper answers whoever may start
it.

Only the standard library's light parts: a tool waits for this.
"""

from __future__ import annotations

import os
import sys

from keychain_auth import errors, reasons
from keychain_auth.client.terminal import printable, require_streams
from keychain_auth.errors import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Protocol, Self

    from keychain_auth.client.sync import KeychainAuthClient
    from keychain_auth.wire.answers import Secret, SecretInfo

    class HelperModule(Protocol):
        """One file of this folder.

        It may have ``without_secrets(name, arguments)``: the exit code of what needs neither daemon nor registration,
        answered at once, or None.
        """

        SERVICE: str
        """The service that it asks for; empty if the tool says which."""

        def main(self, helper: Helper, arguments: list[str]) -> int:
            """Serve one call of the tool; the exit code. Raises Refusal, OSError."""


SCRIPT_VARIABLE = "KEYCHAIN_AUTH_SCRIPT"  # of a launched script, as policy.launching has it
CALLED_AS = "KEYCHAIN_AUTH_CALLED_AS"  # from the front to the launched script: the name it was called by
_START = "keychain-auth start"


class Refusal(Exception):
    """A helper cannot do what the tool wants: ``wanted``, ``why`` not, and the command that mends it (``mend``, or "").

    ``code`` is the exit code. None of them holds a secret.
    """

    def __init__(self, wanted: str, why: str, mend: str = "", code: int = errors.EXIT_FAILED) -> None:
        super().__init__(f"{wanted}: {why}")
        self.wanted, self.why, self.mend, self.code = wanted, why, mend, code


def start(script: str, module: str) -> int:
    """What a shipped script does: launch itself, then serve the tool. ``script`` is its file, ``module`` a file of this
    folder. The exit code; does not return where the process becomes the launched script."""
    require_streams()
    program = os.path.realpath(script)
    try:
        plainly = getattr(_module(module), "without_secrets", None)
        if plainly is not None and (code := plainly(os.path.basename(script), sys.argv[1:])) is not None:
            return int(code)
        if sys.platform == "linux" and os.environ.get(SCRIPT_VARIABLE) != program:
            os.environ[CALLED_AS] = os.path.basename(script)
            _launch(program, _module(module).SERVICE)
        served = _module(module)
        with Helper(program, served.SERVICE) as helper:
            return served.main(helper, sys.argv[1:])
    except Refusal as refusal:
        complain(os.path.basename(program), refusal)
        return refusal.code
    except BrokenPipeError:
        return errors.EXIT_FAILED
    except OSError as error:
        complain(
            os.path.basename(program), Refusal("to answer the tool", f"the system says: {error.strerror or error}")
        )
        return errors.EXIT_FAILED
    except KeyboardInterrupt:
        return 130


def complain(name: str, refusal: Refusal) -> None:
    """The three lines on standard error."""
    lines = [f"{name}: wanted {refusal.wanted}", f"Why not: {refusal.why}"]
    if refusal.mend:
        lines.append(f"Next: {refusal.mend}")
    try:
        sys.stderr.write("".join(printable(line) + "\n" for line in lines))
        sys.stderr.flush()
    except OSError:  # nobody listens: the exit code still says it
        return


def _module(name: str) -> HelperModule:
    # Not importlib.import_module: it costs more than the helpers themselves.
    module: HelperModule = __import__(f"keychain_auth.integrations.{name}", fromlist=("main",))
    return module


def _launch(program: str, service: str) -> None:
    from keychain_auth.client.launch import launch  # noqa: PLC0415 - only here, and only on Linux

    wanted = "to be started"
    try:
        launch(program, sys.argv[1:])
    except errors.KeychainAuthError as error:
        mend = error.hint
        if error.exit_code == errors.EXIT_NOT_FOUND:
            mend = f"{register_command(program)} && keychain-auth authorize {quoted(program)} {quoted(service or '?')}"
        raise Refusal(wanted, _plainly(error), mend or _START, error.exit_code) from None
    except OSError as error:
        raise Refusal(wanted, f"the system says: {error.strerror or error}", "keychain-auth status") from None


def register_command(program: str) -> str:
    """The command that makes this helper known."""
    kind = "--app" if sys.prefix != sys.base_prefix else "--script"
    return f"keychain-auth register {kind} {quoted(program)}"


class Helper:
    """One run of a helper: who it is, what it asks for, and its connection to the daemon, opened when it first asks.

    Every method raises Refusal, made from what the daemon said and from ``wanted``: what the tool is after, in words
    that fit after "wanted".
    """

    def __init__(self, program: str, service: str) -> None:
        self.program = program
        self.name = os.path.basename(program)
        self.service = service
        self.for_agents = False  # it has grants that end, of each agent its own
        self.wait = ""  # for a person to approve who stands behind it; otherwise as its environment says
        self._client: KeychainAuthClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._client is not None:
            self._client.close()

    def read(self, targets: Iterable[str], wanted: str) -> dict[str, Secret]:
        """The secrets of exactly these names, as far as they exist."""
        names = list(targets)
        try:
            return {found.target: found for found in self._connected().read(self.service, names)}
        except errors.KeychainAuthError as error:
            raise self.refusal(error, wanted, "--read", names) from None

    def search(self, wanted: str) -> list[SecretInfo]:
        """Names and attributes of all that this helper may see of its service."""
        try:
            return self._connected().search(self.service)
        except errors.KeychainAuthError as error:
            raise self.refusal(error, wanted, "--read", ()) from None

    def write(self, values: Mapping[str, str], attributes: Mapping[str, str], wanted: str) -> None:
        """Store ``values`` (target to value) in one transaction."""
        try:
            self._connected().write(self.service, values, attributes=attributes)
        except errors.KeychainAuthError as error:
            raise self.refusal(error, wanted, "--write", values) from None

    def delete(self, targets: Iterable[str], wanted: str) -> None:
        """Remove these names; what does not exist is no error."""
        names = list(targets)
        try:
            self._connected().delete(self.service, names)
        except errors.KeychainAuthError as error:
            raise self.refusal(error, wanted, "--write", names) from None

    def absent(self, target: str, wanted: str) -> Refusal:
        """The refusal for a secret that is not there."""
        mend = f"keychain-auth set {quoted(self.service)} {quoted(target)}"
        why = f"there is no {target} in the service {self.service}"
        return Refusal(wanted, why, mend, errors.EXIT_NOT_FOUND)

    def refusal(self, error: errors.KeychainAuthError, wanted: str, grant: str, targets: Iterable[str]) -> Refusal:
        """What ``error`` means for this helper; ``grant`` is the option of ``authorize`` that the request needs."""
        authorize = f"keychain-auth authorize {quoted(self.program)} {quoted(self.service)}"
        what = "write to" if grant == "--write" else "read"
        # Only the daemon and its files know what is granted already, and behind whom: a line made up here could let in
        # more than was refused, or take away what there is.
        explain = f"keychain-auth explain {quoted(self.program)} {quoted(self.service)}"
        ask = " ".join([explain, *[quoted(each) for each in targets][:1], "--action", grant.removeprefix("--")])
        why, mend = {
            reasons.PENDING_APPROVAL: (
                # Launched, it is known: then who started it is not.
                ("who started it is not approved", "keychain-auth list-pending; then keychain-auth approve ID")
                if os.environ.get(SCRIPT_VARIABLE) == self.program
                else ("it is not registered", register_command(self.program))
            ),
            reasons.SERVICE_NOT_ALLOWED: (
                f"it may not {what} the service {self.service}",
                ask if self.for_agents else f"{authorize} {grant}",
            ),
            reasons.ACTION_NOT_IN_POLICY: (
                f"it may not search the service {self.service}",
                f"{authorize} {grant} --search",
            ),
            reasons.TARGET_NOT_ALLOWED: ("it may not use these names", ask),
            reasons.GRANT_ENDED: ("its grant is over", ask),
            reasons.IDENTITY_NOT_VERIFIED: (
                "it, or who started it, could not be known for sure",
                f"keychain-auth audit search --program {quoted(self.program)} --denied",
            ),
            reasons.KEYCHAIN_LOCKED: ("the keychain is locked", "keychain-auth unlock"),
        }.get(error.reason or "", (_plainly(error), error.hint or (_START if _is_down(error) else "")))
        return Refusal(wanted, f"{why} ({error.reason})" if error.reason else why, mend, error.exit_code)

    def _connected(self) -> KeychainAuthClient:
        if self._client is None:
            from keychain_auth.client.sync import KeychainAuthClient  # noqa: PLC0415 - the front does without

            self._client = KeychainAuthClient(wait=self.wait or None)
        return self._client


def _is_down(error: errors.KeychainAuthError) -> bool:
    return isinstance(error, errors.DaemonNotRunning)


def _plainly(error: errors.KeychainAuthError) -> str:
    return "keychain-auth daemon is not running" if _is_down(error) else str(error)


def is_plain(text: str) -> bool:
    """No control characters in it? Names must have none, and a protocol of lines cannot carry them."""
    return text.isprintable() or not any(char < " " or "\x7f" <= char <= "\x9f" for char in text)


def one_line(secret: Secret, wanted: str) -> str:
    """Its value, for a protocol in which a line is all. Raises Refusal if it holds the end of one, or the like."""
    if is_plain(secret.value):
        return secret.value
    raise Refusal(wanted, "it holds control characters, which this tool cannot take", "", errors.EXIT_FAILED)


def called_as(helper: Helper) -> str:
    """The name by which the tool called it, perhaps that of a link to it. It is the caller's choice."""
    return os.environ.get(CALLED_AS) or os.path.basename(sys.argv[0]) or helper.name


def stdin_is_terminal() -> bool:
    """Would reading standard input be asking a person?"""
    return sys.stdin.isatty()


def read_input(most: int = 1 << 20) -> str:
    """All of standard input, as text. Raises Refusal if it is longer than ``most`` bytes or no UTF-8."""
    data = sys.stdin.buffer.read(most + 1)
    if len(data) > most:
        raise Refusal("what the tool asks", f"it is longer than {most} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    raise Refusal("what the tool asks", "it is not UTF-8")


def write_output(text: str) -> None:
    """To standard output, in UTF-8 whatever the terminal's encoding is. Raises OSError."""
    sys.stdout.flush()
    view = memoryview(text.encode("utf-8", "surrogateescape"))
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]
