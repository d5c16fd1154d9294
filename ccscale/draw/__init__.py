"""Pictures for people, as PNG."""
