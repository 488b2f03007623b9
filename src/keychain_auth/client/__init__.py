"""How programs and commands reach the daemon."""
