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


def kept(finetune: Finetune) -> int:
    """Return how many numbers the optimiser keeps for each weight that learns, at most."""
    match finetune.optimizer:
        case AdamW():
            return 2
        case Sgd(momentum=momentum):
            return int(momentum > 0)
        case Adafactor():  # a row and a column of each matrix
            return 0


def one_cycle(optimiser: Any, steps: int, finetune: Finetune) -> Any:
    """Return the schedule that rises for a share of all steps, and then falls to almost nothing.

    The momentum, or Adam's first beta, moves against it, from the greatest to .9 of it (Smith
    2018).
    """
    from torch.optim.lr_scheduler import OneCycleLR

    most = [group["lr"] for group in optimiser.param_groups]
    momentum = finetune.optimizer.momentum if isinstance(finetune.optimizer, Sgd) else 0.95
    rises = finetune.warmup * steps
    if abs(rises - 1) < 1e-6:  # torch would divide by a phase of no length
        rises = 1.5
    return OneCycleLR(
        optimiser,
        most,
        total_steps=steps,
        pct_start=min(rises / steps, 1.0),
        base_momentum=0.9 * momentum,
        max_momentum=momentum,
    )
