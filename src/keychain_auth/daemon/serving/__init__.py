"""Connections: accepting, bytes in and out, whose turn it is."""
