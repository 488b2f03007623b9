"""``keychain-auth get``: one secret from the daemon to stdout.

To a terminal goes the value and a newline, control characters as escapes (line breaks and tabs as they are). Anywhere
else go exactly the bytes of the value: ``$(keychain-auth get …)`` and ``… > key.pem`` get what was stored.

Only the standard library's light parts: this is the fast path.
"""

from __future__ import annotations

import os
import sys

from keychain_auth.cli.report import printable
from keychain_auth.client import admin


def fetch(service: str, target: str, socket: str | None, as_json: bool) -> None:
    """Print the value of a secret. Raises KeychainAuthError (NotFound as exit code 6), OSError."""
    value: str = admin.ask("get", socket=socket, service=service, target=target)
    if as_json:
        import json  # noqa: PLC0415 - loaded already, to read the answer

        text = json.dumps({"service": service, "target": target, "value": value}) + "\n"
    elif sys.stdout.isatty():
        text = printable(value, keep="\n\t") + "\n"
    else:
        text = value
    _write(text.encode())


def _write(data: bytes) -> None:
    # Not through sys.stdout: its encoding is the terminal's affair, the bytes of a secret are not.
    sys.stdout.flush()
    view = memoryview(data)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]
