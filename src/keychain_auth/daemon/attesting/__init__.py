"""Who is asking: looks at processes, hashes, launched scripts."""
