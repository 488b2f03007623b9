"""The daemon itself: start, restart, status, and as a service of the machine."""
