"""``keychain-auth-askpass PROMPT``: for ``SSH_ASKPASS`` and ``GIT_ASKPASS``, which pass their question as it stands.

| question | secret |
|---|---|
| ssh, ssh-add: the passphrase of a key | the key's path, of the service ``ssh`` |
| ssh: ``USER@HOST's password:`` | ``USER@HOST``, of ``ssh`` |
| git: ``Password for 'ADDRESS':`` | as ``git.py`` names it, of ``git`` |
| git: ``Username for 'ADDRESS':`` | the user, if one alone has a password there |

Contract:
* **The whole question must be one of these.** What ssh shows of a server's own questions (keyboard-interactive) has
  the server's words in it; ssh puts ``(USER@HOST)`` before them. A server that asks for ``Enter passphrase for key …``
  gets nothing.
* A secret that is more than a line is not answered: ssh and git would take its first line.
* Nothing is confirmed: whether a host's key is right, or a key may be used, is a person's answer
  (``SSH_ASKPASS_PROMPT``).
"""

from __future__ import annotations

import os
import re

from keychain_auth.errors import EXIT_USAGE, quoted
from keychain_auth.integrations import git
from keychain_auth.integrations.base import Helper, Refusal, one_line, write_output
from keychain_auth.integrations.password import answer

SERVICE = ""

_KEY = re.compile(r"Enter passphrase for (?:key )?'?(/[^'\n]*?)'?(?: \(will confirm each use\))?: ?")
_HOST = re.compile(r"([^\s@()']+@[^\s@()']+)'s password: ?")
_GIT = re.compile(r"(Username|Password) for '(\w+)://(?:([^@/\s']*)@)?([^@/\s']+)(?:/([^\s']*))?': ?")


def main(helper: Helper, arguments: list[str]) -> int:
    """Serve one call."""
    question = " ".join(arguments)
    if os.environ.get("SSH_ASKPASS_PROMPT"):
        raise Refusal(f"an answer to: {question}", "only a person can confirm that", "", EXIT_USAGE)
    if (found := _KEY.fullmatch(question)) is not None:
        helper.service = "ssh"
        return answer(helper, found[1], f"the passphrase of {found[1]}", whole=True)
    if (found := _HOST.fullmatch(question)) is not None:
        helper.service = "ssh"
        return answer(helper, found[1], f"the password of {found[1]}", whole=True)
    if (found := _GIT.fullmatch(question)) is not None:
        helper.service = git.SERVICE
        return _git(helper, *found.groups())
    raise Refusal(f"an answer to: {question}", "it is no question that ssh or git asks by themselves", "", EXIT_USAGE)


def _git(helper: Helper, what: str, protocol: str, user: str | None, host: str, path: str | None) -> int:
    lines = {"protocol": protocol, "host": host, "path": path or ""}
    if user:
        lines["username"] = git.decoded(user)
    described = git.parse("".join(f"{name}={value}\n" for name, value in lines.items() if value))
    found = git.look_up(helper, described)
    if found is None:
        raise helper.absent(git.name_of(described, described.username or "USER"), described.wanted)
    who, secret, _ = found
    told = one_line(secret, described.wanted) if what == "Password" else who.owner(secret.attributes)
    if told is None:
        mend = f"keychain-auth set {git.SERVICE} {quoted(git.name_of(described, 'USER'))}"
        raise Refusal(f"the user for {described.address}", f"{who.target} names none", mend)
    write_output(f"{told}\n")
    return 0
