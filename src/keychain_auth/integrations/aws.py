"""``keychain-auth-aws [PROFILE]``: the ``credential_process`` of AWS command lines and SDKs.

Secrets of the service ``aws``: ``PROFILE:access_key_id`` and ``PROFILE:secret_access_key``, and if they are temporary
``PROFILE:session_token`` and ``PROFILE:expiration`` (ISO 8601). PROFILE is ``default`` if none is named.

Contract: all of them are read in one request, so a key that is being replaced is never mixed with the old one. What is
incomplete is not answered.
"""

from __future__ import annotations

import json

from keychain_auth.errors import EXIT_USAGE
from keychain_auth.integrations.base import Helper, Refusal, write_output

SERVICE = "aws"
_NEEDED = (("AccessKeyId", "access_key_id"), ("SecretAccessKey", "secret_access_key"))
_OPTIONAL = (("SessionToken", "session_token"), ("Expiration", "expiration"))


def main(helper: Helper, arguments: list[str]) -> int:
    """Serve one call."""
    if len(arguments) > 1:
        raise Refusal(
            "keys for AWS", f"it was called with {len(arguments)} words", f"{helper.name} PROFILE", EXIT_USAGE
        )
    profile = arguments[0] if arguments else "default"
    wanted = f"the keys of the AWS profile {profile}"
    found = helper.read([f"{profile}:{name}" for _, name in (*_NEEDED, *_OPTIONAL)], wanted)
    for _, name in _NEEDED:
        if f"{profile}:{name}" not in found:
            raise helper.absent(f"{profile}:{name}", wanted)
    answer: dict[str, object] = {"Version": 1}
    for field, name in (*_NEEDED, *_OPTIONAL):
        if (secret := found.get(f"{profile}:{name}")) is not None:
            answer[field] = secret.value
    write_output(json.dumps(answer) + "\n")
    return 0
