"""Files that the daemon and the command line share."""
