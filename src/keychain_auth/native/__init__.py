"""C interfaces of Windows and macOS that rooms above need, one file each. Nothing is loaded before it is used."""
