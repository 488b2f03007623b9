"""What runs before a launched script, in the script's own language. Not imported: read as text, and sent along.

See ``policy.launching`` for where it stands, and ``docs/adr/0007-launched-scripts.md`` for why.
"""
