"""How a model learns, in slots that combine freely."""
