"""A cluster of etcd as a keychain, for many machines that share secrets."""
