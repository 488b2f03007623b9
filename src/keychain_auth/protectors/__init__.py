"""Protectors: the ways to open the vault. Each fills one kind of slot."""
