"""What x is: how it is read, checked, altered and encoded."""
