"""Policy: what a person allowed, and the pure decisions that follow from it. No clock, no files."""
