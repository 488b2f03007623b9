"""The vault as a whole: open and locked, its keys, whether it is in order, copies of it."""
