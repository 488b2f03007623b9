"""``python -m keychain_auth`` is the command ``keychain-auth``."""

from __future__ import annotations

import sys

from keychain_auth.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
