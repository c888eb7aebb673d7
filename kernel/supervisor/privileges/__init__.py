"""privileges."""
