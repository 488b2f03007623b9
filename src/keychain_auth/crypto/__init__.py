"""Cryptography, in one room: the only importer of ``cryptography``."""
