"""What the command `refit` does."""
