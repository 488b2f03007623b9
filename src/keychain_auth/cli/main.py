"""The entry of the command ``keychain-auth``: a fast way for ``get``, ``launch`` and ``run``, and the way to all else.

Contract: ``get SERVICE TARGET``, ``launch SCRIPT`` and ``run COMMAND`` import nothing but the standard library's light
parts, because scripts call the one in loops, and the others are part of a program's start. Whatever is not plainly
that (``--help``, a missing word, any other command) is left to ``app``, which is loaded by name, so that nothing here
depends on it.

Exit codes are those of the protocol, section "Administration".
"""

from __future__ import annotations

import sys

from keychain_auth.cli.report import EXIT_INTERRUPTED, failure, require_streams
from keychain_auth.errors import KeychainAuthError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command (``sys.argv`` if none is given); its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    require_streams()
    if words[:1] == ["start"] or words[:2] == ["--system", "start"]:
        # A descriptor of its memory that somebody opened before this reads on, and to load the daemon takes long.
        from keychain_auth.platform.dumps import forbid_dumps  # noqa: PLC0415 - other commands have nothing to hide

        forbid_dumps()
    try:
        started = plain_launch(words)
        if started is not None:
            from keychain_auth.client.launch import launch  # noqa: PLC0415 - other commands do not need it

            launch(*started)
        if words[:1] == ["run"]:
            from keychain_auth.client import run  # noqa: PLC0415 - other commands do not need it

            order = run.plain_order(words[1:])
            if order is not None:
                run.run(order)
        plain = plain_get(words)
        if plain is None:
            return _everything_else(words)
        from keychain_auth.cli.fetch import fetch  # noqa: PLC0415 - other commands do not need it

        fetch(*plain)
    except (KeychainAuthError, OSError) as error:
        return failure(error, f"keychain-auth {words[0]}")
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0


def plain_get(words: list[str]) -> tuple[str, str, str | None, bool] | None:
    """Service, target, socket and --json of ``get SERVICE TARGET [--json] [-s PATH]``; None if it is anything else."""
    if not words or words[0] != "get":
        return None
    names: list[str] = []
    socket: str | None = None
    as_json = False
    rest = iter(words[1:])
    for word in rest:
        if not word.startswith("-"):
            names.append(word)
        elif word == "--json":
            as_json = True
        elif word in ("-s", "--socket"):
            socket = next(rest, None)
            if socket is None:
                return None
        else:
            return None
    if len(names) != 2:
        return None
    return names[0], names[1], socket, as_json


def plain_launch(words: list[str]) -> tuple[str, list[str], str | None] | None:
    """Script, its arguments and socket of ``launch [-s PATH] [--] SCRIPT …``; None if it is anything else.

    Whatever follows the script is the script's own, options included.
    """
    if not words or words[0] != "launch":
        return None
    rest = words[1:]
    socket: str | None = None
    if len(rest) > 1 and rest[0] in ("-s", "--socket"):
        socket = rest[1]
        rest = rest[2:]
    if rest[:1] == ["--"]:
        rest = rest[1:]
    elif rest and rest[0].startswith("-"):
        return None
    return (rest[0], rest[1:], socket) if rest else None


def _everything_else(words: list[str]) -> int:
    # By name: whoever follows the imports of this file never comes to click.
    import importlib  # noqa: PLC0415 - the fast way does without

    code: int = importlib.import_module("keychain_auth.cli.app").run(words)
    return code


if __name__ == "__main__":
    sys.exit(main())
