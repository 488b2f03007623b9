"""The pipeline of each user: of a daemon for all users one each, so that they do not meet in one service.

Contract: what a user's requests reach is that user's view of the keychain (``keychain.owned``), within that user's
quota, as the account that has the number when it connects. A daemon of one user has one pipeline, and no view in
between.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from keychain_auth.daemon.requests.pipeline import Pipeline
from keychain_auth.daemon.shares import UserSettings
from keychain_auth.daemon.state.owners import Account, Owners
from keychain_auth.daemon.state.policy_file import PolicyFile
from keychain_auth.keychain.base import Keychain, Remembering
from keychain_auth.keychain.owned import OwnedKeychain
from keychain_auth.keychain.quota import Measure, Quota
from keychain_auth.oslayer import system

_KEPT = 256

Make = Callable[[Keychain, Remembering], Pipeline]
"""A pipeline to this keychain, which is asked for what it said lately while it is gone."""


def of_each_user(
    make: Make, keychain: Keychain, policy_file: PolicyFile, users: UserSettings, measure: Measure, owners: Owners
) -> Callable[[int], Pipeline]:
    """From a uid to that user's pipeline."""
    quota = Quota(measure, users.secrets, users.stored_bytes)

    @functools.lru_cache(maxsize=_KEPT)
    def of_account(uid: int, name: str) -> Pipeline:
        account = Account(owners, uid, name)
        owned = OwnedKeychain(keychain, uid, lambda: policy_file.policy.shared, quota, account)
        return make(owned, owned)

    return lambda uid: of_account(uid, system.user_name(uid))
