"""Keep modules that do not learn as they were pretrained.

Their running statistics and dropout are those of evaluation.
"""

from typing import Any


def hold(module: Any) -> None:
    """Keep a module in evaluation mode: Trainer calls model.train() before each step."""
    module.eval()
    module.train = lambda *_: module


def hold_frozen(model: Any) -> None:
    """Keep each batch normalisation without a learning parameter in evaluation mode.

    Trainer's model.train() does not change that. Otherwise its running statistics would drift, and
    the checkpoint of an adapter contains none of them.
    """
    from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

    for module in model.modules():
        if isinstance(module, _BatchNorm) and not any(
            parameter.requires_grad for parameter in module.parameters()
        ):
            hold(module)
