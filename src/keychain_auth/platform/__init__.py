"""What an operating system knows about a caller. Files here choose the system; a folder is one, or shared by two."""
