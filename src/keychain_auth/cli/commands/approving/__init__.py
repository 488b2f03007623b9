"""Deciding about programs that ask right now: what is known of them, what can be answered, on a screen or in lines."""
