"""Bounds for everybody who cannot ask the daemon for its settings (protocol, "Requests" and "Limits")."""

from __future__ import annotations

LONGEST_SERVICE = 256
"""Characters of a service."""
LONGEST_TARGET = 1024
"""Characters of a target, or of an attribute's name."""
LONGEST_WAIT = 3600
"""Seconds that a request may ask to wait for a person; a daemon may cut that short."""
