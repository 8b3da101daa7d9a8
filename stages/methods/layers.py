"""Find the layers of a model."""

from typing import Any


def stack(model: Any) -> tuple[str, Any]:
    """Return the name of a model's longest list of modules, and the list.

    It is the list of the layers, bottom first; of a ResNet that of its stages.
    """
    import torch

    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList)
    }
    return max(lists.items(), key=lambda item: len(item[1]), default=("", []))
