"""What learns: which weights move, and how fast."""
