"""What a person reads of an evaluation: page, card and pictures."""
