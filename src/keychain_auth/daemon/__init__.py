"""The daemon. Before anything else of it is loaded, asyncio is, without ``ssl``.

Why: asyncio imports ``ssl`` if there is one: 1.5 MiB of memory, and time at each start, for sockets that are all local.
It does without where a Python was built without. Whoever speaks TLS here (a keychain on the network) imports ``ssl``
as usual and gets it.
"""

import sys

if "asyncio" not in sys.modules and "ssl" not in sys.modules:
    sys.modules["ssl"] = None  # type: ignore[assignment]  # to import it is an ImportError now
    try:
        import asyncio  # noqa: F401
    finally:
        del sys.modules["ssl"]
