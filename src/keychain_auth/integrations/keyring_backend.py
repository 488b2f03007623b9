"""A backend of the keyring library: what pip, twine and others keep in "the keyring" lies with the daemon.

keyring finds it by itself (entry point ``keyring.backends``) in an environment that has this package, while a daemon's
socket is there. Service and user of keyring are service and target here, as they stand, so that ``keychain-auth set
SERVICE USER`` and ``keychain-auth authorize PROGRAM SERVICE`` mean the same names.

Contract:
* **The program that uses keyring is who asks**: its own entry decides, not that of a helper.
* What is not there is None. Locked is KeyringLocked, everything else that was refused is KeyringError
  (PasswordSetError, PasswordDeleteError): what was wanted, why not, and the command that mends it. Never a prompt.
* Names that the protocol cannot hold (empty, or with control characters) are written as ``%:`` and percent codes.
* ``get_credential`` without a user answers the one that there is; if there are several it says so, and answers none.

Only who has keyring imports this file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from keyring import backend, credentials
from keyring import errors as keyring_errors
from keyring.compat import properties

from keychain_auth.client import discovery
from keychain_auth.errors import EXIT_LOCKED
from keychain_auth.integrations.base import SCRIPT_VARIABLE, Helper, Refusal, is_plain
from keychain_auth.integrations.keyring_names import decoded, encoded, sole_user


class Keyring(backend.KeyringBackend):
    """keychain-auth as a keyring."""

    @properties.classproperty
    def priority(self) -> float:
        """Before the desktop's (5): who runs this daemon wants it."""
        if not os.path.exists(discovery.find_socket_path()):
            raise RuntimeError("keychain-auth daemon is not running")
        return 9

    def get_password(self, service: str, username: str) -> str | None:
        """The password; None if there is none."""
        with _asking(service, keyring_errors.KeyringError) as helper:
            target = encoded(username)
            found = helper.read([target], _wanted(service, username)).get(target)
        return None if found is None else found.value

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep it."""
        with _asking(service, keyring_errors.PasswordSetError) as helper:
            helper.write({encoded(username): password}, {}, f"to keep {_wanted(service, username)}")

    def delete_password(self, service: str, username: str) -> None:
        """Remove it."""
        with _asking(service, keyring_errors.PasswordDeleteError) as helper:
            wanted = f"to forget {_wanted(service, username)}"
            target = encoded(username)
            if target not in helper.read([target], wanted):
                raise helper.absent(target, wanted)
            helper.delete([target], wanted)

    def get_credential(self, service: str, username: str | None) -> credentials.Credential | None:
        """User and password, also where only the service is known."""
        if username is None:
            with _asking(service, keyring_errors.KeyringError) as helper:
                target = sole_user(helper, _wanted(service, None))
            if target is None:
                return None
            username = decoded(target)
        password = self.get_password(service, username)
        return None if password is None else credentials.SimpleCredential(username, password)


def _wanted(service: str, username: str | None) -> str:
    return f"the password for {service}" if username is None else f"the password of {username} for {service}"


@contextmanager
def _asking(service: str, kind: type[keyring_errors.KeyringError]) -> Iterator[Helper]:
    """Who asks, for messages and mending commands: the script that was launched, or else that was started."""
    program = os.path.realpath(os.environ.get(SCRIPT_VARIABLE) or sys.argv[0] or sys.executable)
    try:
        with Helper(program, encoded(service)) as helper:
            yield helper
    except Refusal as refused:
        refusal = refused
    else:
        return
    if refusal.code == EXIT_LOCKED:
        kind = keyring_errors.KeyringLocked
    next_step = f" Next: {refusal.mend}" if refusal.mend else ""
    text = f"wanted {refusal.wanted}. Why not: {refusal.why}.{next_step}"
    raise kind(text if is_plain(text) else ascii(text))
