"""Numbers that tests cannot show: each is printed by one command."""
