"""``keychain-auth-password SERVICE TARGET``: one secret and a newline, for tools that take a command for a password.

restic (``RESTIC_PASSWORD_COMMAND``), borg (``BORG_PASSCOMMAND``), mbsync (``PassCmd``), msmtp (``passwordeval``), and
the like.

Contract: the secret goes to standard output as it is, with one newline after it, and nowhere else; nothing goes there
when there is none. It may be told services that are as good as one each: its entry says which it may use.
"""

from __future__ import annotations

from keychain_auth.errors import EXIT_USAGE
from keychain_auth.integrations.base import Helper, Refusal, one_line, write_output

SERVICE = ""


def main(helper: Helper, arguments: list[str]) -> int:
    """Serve one call."""
    if len(arguments) != 2:
        wrong = f"it was called with {len(arguments)} words"
        raise Refusal("a password", wrong, f"{helper.name} SERVICE TARGET", EXIT_USAGE)
    helper.service, target = arguments
    return answer(helper, target, f"{target} of {helper.service}")


def answer(helper: Helper, target: str, wanted: str, *, whole: bool = False) -> int:
    """Print the secret. Raises Refusal if there is none; with ``whole`` also if it is more than a line."""
    found = helper.read([target], wanted).get(target)
    if found is None:
        raise helper.absent(target, wanted)
    write_output((one_line(found, wanted) if whole else found.value) + "\n")
    return 0
