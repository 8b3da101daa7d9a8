"""How samples lie in a data set."""
