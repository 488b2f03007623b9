"""The vault: the embedded keychain. One SQLite file whose every name and value is encrypted.

Read in this order: ``format`` (what is on disk), ``index`` (what is in memory), ``database`` and
``writer`` (SQLite), ``opening`` and ``create`` (from a folder to a vault, or to an error), ``reading``, ``changing``
and ``vault`` (the keychain).
"""

from keychain_auth.keychain.vault.keys import Keys
from keychain_auth.keychain.vault.opening import claim_vault, open_vault, peek_slots
from keychain_auth.keychain.vault.vault import Vault

__all__ = ["Keys", "Vault", "claim_vault", "open_vault", "peek_slots"]
