"""macOS. Not verified on hardware: docs/platforms.md."""
