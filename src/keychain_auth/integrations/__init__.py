"""Helpers by which tools that know nothing of keychain-auth get their passwords from it: one file for each tool."""
