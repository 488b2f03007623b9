"""``keychain-auth-ansible-client --vault-id NAME``: a vault password client of Ansible.

Ansible passes ``--vault-id`` to programs whose name ends in ``-client``. The password is the secret NAME of the service
``ansible``; without a name, ``default``.
"""

from __future__ import annotations

from keychain_auth.errors import EXIT_USAGE
from keychain_auth.integrations.base import Helper, Refusal
from keychain_auth.integrations.password import answer

SERVICE = "ansible"


def main(helper: Helper, arguments: list[str]) -> int:
    """Serve one call."""
    if arguments and not (len(arguments) == 2 and arguments[0] == "--vault-id"):
        raise Refusal("a vault password", "it was called in another way", f"{helper.name} --vault-id NAME", EXIT_USAGE)
    name = arguments[1] if arguments else "default"
    return answer(helper, name, f"the Ansible vault password {name}")
