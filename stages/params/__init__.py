"""What params.yaml may hold: every key, its type, its range and what it means, and not one value."""
