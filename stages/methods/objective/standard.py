"""Minimises the loss that transformers has for the problem: of several labels binary cross-entropy, of numbers the squared error."""

from collections.abc import Callable
from typing import Any

from stages.params.finetune import Standard


def loss(_: Standard, model: Any, __: list[Any]) -> Callable[..., Any]:
    """Return the loss of outputs.logits (rows, outputs) against labels, a mean over the batch, by the problem_type of the model's configuration.

    Where gradients are accumulated, num_items_in_batch is the number of rows of all the accumulated batches.
    """
    from transformers.loss.loss_utils import ForSequenceClassificationLoss

    def mean_loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        mean = ForSequenceClassificationLoss(labels, outputs.logits, model.config)
        return mean if num_items_in_batch is None else mean * len(labels) / num_items_in_batch

    return mean_loss
