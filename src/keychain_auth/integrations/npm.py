"""``keychain-auth-npm-token``: the ``tokenHelper`` of pnpm, which is a path and takes no arguments.

The token is the secret ``default`` of the service ``npm``. For further registries make links to the helper: called as
``keychain-auth-npm-token@NAME`` it answers the secret NAME.

Contract: answers the value of the HTTP header ``Authorization``, ``Bearer TOKEN``, which every pnpm takes.
"""

from __future__ import annotations

from keychain_auth.integrations.base import Helper, called_as, one_line, write_output

SERVICE = "npm"


def main(helper: Helper, arguments: list[str]) -> int:
    """Serve one call."""
    target = called_as(helper).partition("@")[2] or "default"
    wanted = f"the npm token {target}"
    found = helper.read([target], wanted).get(target)
    if found is None:
        raise helper.absent(target, wanted)
    write_output(f"Bearer {one_line(found, wanted)}\n")
    return 0
