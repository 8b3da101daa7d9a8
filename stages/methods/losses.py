"""Compute the loss that a problem has, whatever else an objective adds to it."""

from collections.abc import Callable, Sequence
from typing import Any


def of_problem(configuration: Any) -> Callable[[Any, Any, Any], Any]:
    """Return the mean loss of logits (rows, outputs) against targets, as transformers has it.

    It is the cross-entropy of one label, the binary cross-entropy of several, or the squared error
    of numbers, by the problem_type of a model's configuration. A third argument, if it is not None,
    is the number of rows by which the sum is divided instead (learning.Loss).
    """
    from transformers.loss.loss_utils import ForSequenceClassificationLoss

    def loss(logits: Any, targets: Any, items: Any = None) -> Any:
        mean = ForSequenceClassificationLoss(targets, logits, configuration)
        return mean if items is None else mean * len(targets) / items

    return loss


def weights(targets: Sequence[int], balanced: bool) -> Any:
    """Return a weight for each label (labels,), by its rows, or None unless they are balanced."""
    import torch

    if not balanced:
        return None
    rows = torch.bincount(torch.tensor(targets))
    return len(targets) / (len(rows) * rows.clamp(min=1))
