"""Values, by hand: set, change, list, remove, earlier ones, from and to other programs, canaries."""
