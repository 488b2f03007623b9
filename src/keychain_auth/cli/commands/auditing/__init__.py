"""Commands below ``keychain-auth audit``, and what they are made of."""
