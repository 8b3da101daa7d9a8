"""What DVC, git and the disk know of this project."""
