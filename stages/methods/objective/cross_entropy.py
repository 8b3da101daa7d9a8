"""Minimise the negative log-likelihood of the right label.

Some of the target may be spread over all labels (Szegedy et al. 2016).
"""

from collections.abc import Callable
from typing import Any

from stages.params.finetune import CrossEntropy


def loss(settings: CrossEntropy, _: Any, targets: list[int]) -> Callable[..., Any]:
    """Return the mean loss, over a batch, of outputs.logits (rows, labels) against labels (rows,).

    If gradients are accumulated, num_items_in_batch is the number of rows of all the accumulated
    batches.
    """
    import torch
    from torch.nn.functional import cross_entropy

    rows = torch.bincount(torch.tensor(targets))
    weights = (
        None if settings.class_weights == "none" else len(targets) / (len(rows) * rows.clamp(min=1))
    )

    def mean_loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        of_labels = None if weights is None else weights.to(outputs.logits)
        total = cross_entropy(
            outputs.logits,
            labels,
            weight=of_labels,
            reduction="sum",
            label_smoothing=settings.label_smoothing,
        )
        return total / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    return mean_loss
