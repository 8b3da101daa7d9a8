"""Only the new head learns, on the features that the base model gives as it is."""

from typing import Any

from stages.contract.params import LinearProbe


def prepare(model: Any, _: LinearProbe) -> None:
    """Freeze the base model and keep it in evaluation mode (no dropout), so that the head sees what it will meet later."""
    base = model.base_model
    base.requires_grad_(False)
    base.eval()
    base.train = lambda *_: base  # Trainer calls model.train() before each step
