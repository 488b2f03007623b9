"""The command line's own socket, and its commands."""
