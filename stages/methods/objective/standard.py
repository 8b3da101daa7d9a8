"""Minimise the loss that transformers has for the problem.

It is binary cross-entropy for several labels, and the squared error for numbers.
"""

from collections.abc import Callable
from typing import Any

from stages.params.finetune import Standard


def loss(_: Standard, model: Any, __: list[Any]) -> Callable[..., Any]:
    """Return the mean loss, over a batch, of outputs.logits (rows, outputs) against labels.

    The problem_type of the model's configuration decides which loss it is. If gradients are
    accumulated, num_items_in_batch is the number of rows of all the accumulated batches.
    """
    from transformers.loss.loss_utils import ForSequenceClassificationLoss

    def mean_loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        mean = ForSequenceClassificationLoss(labels, outputs.logits, model.config)
        return mean if num_items_in_batch is None else mean * len(labels) / num_items_in_batch

    return mean_loss
