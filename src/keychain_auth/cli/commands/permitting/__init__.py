"""What a known program may do, on whose behalf, by whose word; and why it may or may not."""
