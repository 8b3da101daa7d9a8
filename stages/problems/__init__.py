"""What y is: head, target, decoding and metrics."""
