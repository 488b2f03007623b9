"""Parts of ``keychain-auth doctor``: facts about an installation, and what they mean."""
