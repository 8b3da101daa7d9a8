"""Where the steps are taken."""
