"""What the daemon does beside answering: once a second, about itself, and for a person to see."""
