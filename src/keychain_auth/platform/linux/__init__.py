"""Linux: peer credentials, /proc, netlink, namespaces. One concern, one file."""
