"""Keychains: the storages behind the daemon, all with the shape of ``keychain.base.Keychain``."""
