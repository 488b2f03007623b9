"""For who makes programs (``keygen``, ``sign``, ``verify``) or another daemon (``conformance``)."""
