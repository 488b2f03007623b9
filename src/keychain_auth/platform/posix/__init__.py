"""What Linux and macOS have in common: Unix sockets, owners and modes of files, signals. Nobody chooses it by name."""
