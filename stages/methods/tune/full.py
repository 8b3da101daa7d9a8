"""Every weight learns; the table of token embeddings may stay, which saves most of the optimiser's work."""

from typing import Any

from stages.contract.params import Full


def prepare(model: Any, settings: Full) -> None:
    """Let all parameters learn, but the input embeddings only if the settings say so."""
    model.requires_grad_(True)
    if not settings.embeddings:
        model.get_input_embeddings().requires_grad_(False)
