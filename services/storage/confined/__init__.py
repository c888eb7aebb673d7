"""confined."""
