"""Minimises the negative log-likelihood of the right label, some of the target spread over all (Szegedy et al. 2016)."""

from collections.abc import Callable
from typing import Any

from stages.contract.params import CrossEntropy


def loss(settings: CrossEntropy) -> Callable[..., Any]:
    """Return the loss of outputs.logits (rows, labels) against labels (rows,), a mean over the batch.

    Where gradients are accumulated, num_items_in_batch is the number of rows of all the accumulated batches.
    """
    from torch.nn.functional import cross_entropy

    def mean_loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        if num_items_in_batch is None:
            return cross_entropy(outputs.logits, labels, label_smoothing=settings.label_smoothing)
        return cross_entropy(outputs.logits, labels, reduction="sum", label_smoothing=settings.label_smoothing) / num_items_in_batch

    return mean_loss
