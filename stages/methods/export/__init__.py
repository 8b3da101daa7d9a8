"""The form in which a model leaves."""
