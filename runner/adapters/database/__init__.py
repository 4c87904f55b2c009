"""The user's own database."""
