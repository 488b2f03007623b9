"""The Secret Service of the desktop as a keychain (extra ``secret-service``)."""
