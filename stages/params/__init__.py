"""What params.yaml may contain: every key, its type, its range and its meaning, but no value."""
