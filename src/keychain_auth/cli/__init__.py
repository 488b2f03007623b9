"""The command ``keychain-auth``: ``main`` is its entry, ``app`` knows all commands, one file for each group of them."""
