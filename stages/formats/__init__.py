"""Convert the files of a source if Refit cannot read them as they come."""
