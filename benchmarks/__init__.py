"""Measure what tests cannot show: one command prints each number."""
