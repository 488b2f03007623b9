"""Identity: from what the kernel said to who it is. Pure."""
