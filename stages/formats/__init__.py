"""What the files of a source are turned into, where Refit cannot read them as they come."""
