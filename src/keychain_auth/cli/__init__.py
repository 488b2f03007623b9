"""The command ``keychain-auth``: ``main`` is its entry, ``app`` knows all commands, ``commands`` has them."""
