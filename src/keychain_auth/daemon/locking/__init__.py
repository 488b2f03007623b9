"""The vault's door, and what rests on it being open."""
