"""The problems, which say what y is: head, target, decoding and metrics."""
