"""Which programs are known, and what a known one is: its file, its interpreter, its imports, its publisher."""
