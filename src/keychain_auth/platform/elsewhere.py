"""What ``linux/condition.py`` asks, on systems that have none of it: nothing is in the way, and nothing is known."""

from __future__ import annotations


def allows_user_namespaces() -> bool:
    """There are no user namespaces."""
    return False


def diagnoses_sockets() -> bool:
    """Who holds a socket is found out by other means."""
    return True


def lacks() -> tuple[str, ...]:
    """Nothing that the daemon would use if it were there."""
    return ()


def clock_is_synchronised() -> bool | None:
    """It is not told to programs."""
    return None


def unit_of(pid: int) -> str:
    """There are no units of systemd."""
    return ""
