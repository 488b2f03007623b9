"""``keychain-auth-keyring``: the command ``keyring`` as pip, uv and others call it, as a program of its own.

They look for a command of the name ``keyring`` on PATH (``--keyring-provider subprocess``): a link of that name to this
helper serves them, from whatever environment they run, and none of them needs the library.

Contract: ``get SERVICE USER``, ``--mode creds get SERVICE [USER]`` and ``--output json`` answer as keyring 25 does,
with exit code 1 and no word if there is nothing. ``set`` takes the password from standard input alone.
"""

from __future__ import annotations

import json

from keychain_auth.errors import EXIT_FAILED, EXIT_USAGE, quoted
from keychain_auth.integrations.base import Helper, Refusal, is_plain, read_input, stdin_is_terminal, write_output
from keychain_auth.integrations.keyring_names import decoded, encoded, sole_user

SERVICE = ""
_OPTIONS = {"--mode": ("password", "creds"), "--output": ("plain", "json")}


def main(helper: Helper, arguments: list[str]) -> int:
    """Serve one call."""
    words, options = _parsed(helper, arguments)
    operation, service, username = words[0], words[1], words[2] if len(words) == 3 else None
    helper.service = encoded(service)
    whose = f" of {username}" if username is not None else ""
    wanted = f"the password{whose} for {service}"
    if operation == "get":
        return _get(helper, username, wanted, options)
    target = encoded(username or "")
    if operation == "set":
        if stdin_is_terminal():
            mend = f"keychain-auth set {quoted(service)} {quoted(target)}"
            raise Refusal(f"to keep {wanted}", "it comes from standard input, and nobody is asked here", mend)
        helper.write({target: read_input().removesuffix("\n")}, {}, f"to keep {wanted}")
    else:
        if target not in helper.read([target], f"to forget {wanted}"):
            raise helper.absent(target, f"to forget {wanted}")
        helper.delete([target], f"to forget {wanted}")
    return 0


def _get(helper: Helper, username: str | None, wanted: str, options: dict[str, str]) -> int:
    target = sole_user(helper, wanted) if username is None else encoded(username)
    found = helper.read([target], wanted).get(target) if target is not None else None
    if found is None:
        return EXIT_FAILED
    answer = {"password": found.value}
    if options["--mode"] == "creds":
        answer = {"username": decoded(found.target), **answer}
        # Read as two lines, and names come from whoever may write: the second would be the password.
        if options["--output"] != "json" and not is_plain(answer["username"]):
            raise Refusal(wanted, "its user's name holds control characters, which two lines cannot carry")
    write_output(json.dumps(answer) + "\n" if options["--output"] == "json" else "\n".join(answer.values()) + "\n")
    return 0


def _parsed(helper: Helper, arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Words and options, in any order, as argparse has them. Raises Refusal."""
    options = {name: choices[0] for name, choices in _OPTIONS.items()}
    words: list[str] = []
    rest = iter(arguments)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in _OPTIONS:
            options[name] = value if equals else next(rest, "")
        else:
            words.append(word)
    fits = all(options[name] in choices for name, choices in _OPTIONS.items())
    fewest = 2 if options["--mode"] == "creds" and words[:1] == ["get"] else 3
    if not fits or words[:1] not in (["get"], ["set"], ["del"]) or not fewest <= len(words) <= 3:
        usage = f"{helper.name} get SERVICE USER"
        raise Refusal("a password", "keyring is called in another way", usage, EXIT_USAGE)
    return words, options
