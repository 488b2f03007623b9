"""What the key slots of a vault stop, in one sentence for ``status``: the weakest of them counts. Pure."""

from __future__ import annotations

from collections.abc import Collection

# From the weakest: whoever is not stopped by a slot of the vault is not stopped by the vault.
_STOPS = {
    "keyfile": "stops whoever has vault.db without vault.key; not a program that runs as you, for it can read both",
    "secret_service": "stops whoever has the files alone; not a program that runs as you while your keyring is open",
    "macos_keychain": "stops whoever has the files alone; not a Python program of yours while your keychain is open",
    "dpapi": "stops whoever has the files without your Windows account; not a program of yours, for it asks nobody",
    "wsl": "stops whoever has the files alone; not a program that runs as you and starts the Windows helper itself",
    "tpm2": "stops whoever has the files or the disk without this machine; not a program that runs as you on it",
    "passphrase": "stops whoever has the files, and programs that run as you while the vault is locked; not one that "
    "watches you type",
    "recovery": "stops whoever has the files and not the paper; not whoever finds it",
}


# What no program of a user can reach when the daemon's files are those of a user of its own.
_OUT_OF_REACH = frozenset(("keyfile", "tpm2"))


def what_they_stop(kinds: Collection[str], *, own_user: bool = False) -> str:
    """One sentence about a vault whose slots are of these ``kinds``.

    ``own_user``: nothing but the daemon runs as the user whose files these are (system mode).
    """
    weakest = next((kind for kind in _STOPS if kind in kinds), "")
    if not weakest:
        return "nothing is known of these key slots"
    if own_user and weakest in _OUT_OF_REACH:
        rest = "without vault.key" if weakest == "keyfile" else "or the disk without this machine"
        return f"{weakest} stops every program but root's, and whoever has a copy of vault.db {rest}"
    return f"{weakest} {_STOPS[weakest]}"
