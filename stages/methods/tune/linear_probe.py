"""Only the new head learns, on the features that the base model gives as it is."""

from typing import Any

from stages.contract.params import LinearProbe


def prepare(model: Any, new: frozenset[str], _: LinearProbe) -> Any:
    """Freeze all but what is new; keep the base model in evaluation mode (no dropout), so that the head sees what it will meet later."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in new)
    base = model.base_model
    base.eval()
    base.train = lambda *_: base  # Trainer calls model.train() before each step
    return model


def finish(learner: Any) -> Any:
    """Return the model as it is."""
    return learner
