"""Only the new head learns, on the features that the base model gives as it is."""

from typing import Any

from stages.contract.params import LinearProbe


def prepare(model: Any, _: LinearProbe) -> None:
    """Freeze the base model and switch its dropout off, so that the head sees the features it will meet later."""
    import torch

    model.base_model.requires_grad_(False)
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
