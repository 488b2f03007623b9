"""``keychain-auth-run``: commands of an agent, with the secrets that its entry may have, and not the person's.

As ``keychain-auth run``, with another right: it asks as a program, over the agent socket, with the grants of this
helper's own entry, and only on behalf of who was approved (``on_behalf_of``). So an agent whose commands it starts has
what was granted, for as long and as often as that was granted, and is never asked for a passphrase.

With ``--wait`` it waits for a person to approve who stands behind it, and so do requests of the command itself.

The command gets the environment that a launched script has (docs/operations.md, "Scripts"): variables that name code,
and open files other than the standard streams, are left behind.
"""

from __future__ import annotations

from keychain_auth.client import references, run
from keychain_auth.errors import EXIT_NOT_FOUND, EXIT_USAGE, KeychainAuthError, quoted
from keychain_auth.integrations.base import CALLED_AS, SCRIPT_VARIABLE, Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from keychain_auth.integrations.base import Helper

SERVICE = ""
_USAGE = "keychain-auth-run [--wait TIME] [--env-file FILE] [--only NAME,…] [--fd NAME:NUMBER] [--] COMMAND …"


def main(helper: Helper, arguments: list[str]) -> int:
    """Become the command."""
    wanted = "to start a command"
    try:
        order = run.plain_order(arguments)
        if order is None or order.reason or order.socket is not None:
            raise Refusal(wanted, "these words do not fit", _USAGE, EXIT_USAGE)
        wanted = f"to start {order.command[0]}"
        helper.wait = order.wait
        helper.for_agents = True
        order.left_behind = (SCRIPT_VARIABLE, CALLED_AS)
        run.run(order, lambda names: _values(helper, names, order.command[0]))
    except KeychainAuthError as error:
        raise Refusal(wanted, str(error), error.hint, error.exit_code) from None


def _values(helper: Helper, wanted: Mapping[str, references.Reference], command: str) -> Mapping[str, str]:
    """All values, each service asked once. What is missing is listed whole. Where a service says no after another has
    answered, a use of that other one is spent."""
    found: dict[references.Reference, str] = {}
    for service in dict.fromkeys(service for service, _ in wanted.values()):
        targets = list(dict.fromkeys(target for owner, target in wanted.values() if owner == service))
        helper.service = service
        told = f"{', '.join(references.compose(service, target) for target in targets)} for {command}"
        for target, secret in helper.read(targets, told).items():
            found[service, target] = secret.value
    missing = sorted(name for name, reference in wanted.items() if reference not in found)
    if missing:
        listed = ", ".join(f"{name} ({references.compose(*wanted[name])})" for name in missing)
        mend = f"keychain-auth set {' '.join(map(quoted, wanted[missing[0]]))}"
        raise Refusal(f"secrets for {command}", f"there is no secret for {listed}", mend, EXIT_NOT_FOUND)
    return {name: found[reference] for name, reference in wanted.items()}
