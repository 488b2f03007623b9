"""Does a daemon speak the protocol, and is it hard to lie to? For any implementation, over its socket alone."""
