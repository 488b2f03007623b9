"""Values in use: by another program, in a file, by a script, and what an agent may know of them."""
