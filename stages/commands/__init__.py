"""The work behind the command `refit`."""
