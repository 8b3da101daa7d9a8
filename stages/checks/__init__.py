"""What data must satisfy before it may be learned from."""
