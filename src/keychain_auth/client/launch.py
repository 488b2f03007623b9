"""``keychain-auth launch``: becomes a registered script under the daemon's eyes.

This process asks the daemon what to execute, puts the script into a memory file that nobody can change, leaves behind
what a script must not inherit (variables, descriptors, the right to core files), lets the daemon trace it, and executes
the interpreter itself. So terminal, job control, signals and the exit code are the script's own.

The daemon believes nothing of this: it looks at the result before the first instruction (``identity.launch``).

Only the standard library's light parts: this is on the fast path.
"""

from __future__ import annotations

import os
import resource
import signal
import sys

from keychain_auth.client import admin
from keychain_auth.errors import KeychainAuthError, NotFound, quoted
from keychain_auth.platform.memory import sealed
from keychain_auth.platform.tracing import let_trace
from keychain_auth.policy.environment import allowed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

_SCRIPT_FD = 3  # as policy.launching has it


def launch(script: str, arguments: Sequence[str], socket: str | None = None) -> NoReturn:
    """Become the registered ``script``. Returns only by an error: KeychainAuthError, OSError."""
    if sys.platform != "linux":
        raise KeychainAuthError(
            "scripts are launched on Linux only: no other system lets the daemon look before the first instruction",
            hint=f"keychain-auth register --script --allow-declared {quoted(script)}",
        )
    path = os.path.realpath(script)
    content = _read(path, script)
    _occupy()
    with admin.Conversation(socket=socket) as daemon:
        plan = daemon.ask("launch", target=path)
        _leave_behind(daemon.fileno(), content=plan["prelude"].encode() + content)
        let_trace(plan["daemon"])
        environment = _environment(plan["variables"])
        daemon.ask("launch-ready", target=path)
        _become(plan, arguments, environment)


def _read(path: str, typed: str) -> bytes:
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY)) as file:
            return file.read()
    except FileNotFoundError:
        raise NotFound(f"{typed} does not exist") from None


def _occupy() -> None:
    """Let the connection get another number than the script's. (To move it later would look to the daemon, for a
    moment, as if this process did not hold it.)"""
    fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    if fd != _SCRIPT_FD:
        os.close(fd)


def _leave_behind(connection: int, *, content: bytes) -> None:
    """Close whatever is open but the standard streams and the connection; then put ``content`` on descriptor 3."""
    os.closerange(_SCRIPT_FD, connection)
    os.closerange(connection + 1, _highest())
    memory = sealed("script", content)
    if memory == _SCRIPT_FD:
        os.set_inheritable(memory, True)
    else:
        os.dup2(memory, _SCRIPT_FD, inheritable=True)
        os.close(memory)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Python ignores these from its start on; the script shall not (signal(7): an exec keeps what is ignored).
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def _environment(variables: dict[str, str]) -> dict[str, str]:
    environment = {name: os.environ[name] for name in allowed(os.environ)}
    environment.update(variables)
    return environment


def _become(plan: dict[str, Any], arguments: Sequence[str], environment: dict[str, str]) -> NoReturn:
    try:
        os.execve(plan["program"], [*plan["argv"], *arguments], environment)  # noqa: S606 - the point
    except OSError as error:
        raise KeychainAuthError(f"cannot execute {plan['program']}: {error.strerror}") from None


def _highest() -> int:
    """One above the highest descriptor that can be open."""
    return max(map(int, os.listdir("/proc/self/fd"))) + 1
