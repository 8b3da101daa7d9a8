"""How samples are laid out in a data set."""
