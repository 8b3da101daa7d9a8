"""What a model folder is, and how it is loaded and run."""
