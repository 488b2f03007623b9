"""``terraform-credentials-keychain-auth get|store|forget HOST``: a credentials helper of Terraform (and OpenTofu).

A token is a secret of the service ``terraform``, named by the host.

Contract: ``get`` of an unknown host is an empty object, not an error. ``store`` takes a token alone: of an object with
other properties nothing is kept, because a part of it would be lost.
"""

from __future__ import annotations

import json

from keychain_auth.errors import EXIT_USAGE
from keychain_auth.integrations.base import Helper, Refusal, read_input, write_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SERVICE = "terraform"


def main(helper: Helper, arguments: list[str]) -> int:
    """Serve one call. Words of ``args`` in Terraform's configuration come first, and mean nothing here."""
    operation, host = arguments[-2:] if len(arguments) > 1 else ("", "")
    if operation == "get":
        found = helper.read([host], f"the token for {host}").get(host)
        write_output(json.dumps({} if found is None else {"token": found.value}) + "\n")
    elif operation == "store":
        helper.write({host: _token(read_input(), host)}, {}, f"to keep the token for {host}")
    elif operation == "forget":
        helper.delete([host], f"to forget the token for {host}")
    else:
        raise Refusal("a token for Terraform", "it was called in another way", f"{helper.name} get HOST", EXIT_USAGE)
    return 0


def _token(text: str, host: str) -> str:
    # Raised outside of the handler: the JSON library's error carries the whole text, token and all.
    try:
        given: Any = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if isinstance(given, dict) and set(given) == {"token"} and isinstance(given["token"], str):
        return given["token"]
    raise Refusal(f"to keep the token for {host}", "what Terraform gives is more, or something else, than a token")
