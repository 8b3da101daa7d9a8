"""Turn gradients into steps: the optimiser over what learns, and the schedule of its rate."""

from typing import Any

from stages.contract.learning import Learning
from stages.params.finetune import Adafactor, AdamW, Finetune, Sgd


def optimiser(model: Any, finetune: Finetune, learning: Learning) -> Any:
    """Return the optimiser over the parameters that learn, by torch or by transformers.

    Biases and the vectors of normalisation layers do not decay. Modules that learning.head names
    have a learning rate of their own, whatever a method has wrapped them in.
    """
    import torch
    from transformers.optimization import Adafactor as FactoredAdam

    groups: dict[tuple[float, float], list[Any]] = {}
    for name, weights in model.named_parameters():
        if weights.requires_grad:
            in_head = any(f".{module}." in f".{name}" for module in learning.head)
            rate = finetune.head_learning_rate if in_head else finetune.learning_rate
            rate *= learning.rates.get(name, 1.0)
            decay = finetune.weight_decay if weights.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(weights)
    of_torch = [
        {"params": weights, "lr": rate, "weight_decay": decay}
        for (rate, decay), weights in groups.items()
    ]
    match finetune.optimizer:
        case AdamW():
            return torch.optim.AdamW(of_torch, fused=True)
        case Sgd(momentum=momentum):
            return torch.optim.SGD(of_torch, momentum=momentum, fused=True)
        case Adafactor():  # so that a learning rate means what it means for AdamW
            return FactoredAdam(of_torch, scale_parameter=False, relative_step=False)


def one_cycle(optimiser: Any, steps: int, warmup: float) -> Any:
    """Return the schedule that rises for a share of all steps, and then falls to almost nothing.

    The momentum moves against it (Smith 2018).
    """
    from torch.optim.lr_scheduler import OneCycleLR

    most = [group["lr"] for group in optimiser.param_groups]
    return OneCycleLR(optimiser, most, total_steps=steps, pct_start=warmup)
