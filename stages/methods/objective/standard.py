"""Minimise the loss that transformers has for the problem.

It is binary cross-entropy for several labels, and the squared error for numbers.
"""

from dataclasses import dataclass
from typing import Any

from stages.contract.learning import Inputs
from stages.contract.protocols import Start
from stages.params.finetune import Standard


@dataclass(frozen=True)
class Loss:
    """The loss of logits (rows, outputs), as learning.Loss says.

    The problem_type of a model's configuration decides which loss it is.
    """

    configuration: Any

    def __call__(
        self, model: Any, inputs: Inputs, targets: Any, items: Any = None, /
    ) -> tuple[Any, Any]:
        """Return the mean loss of a batch, and the model's outputs."""
        from transformers.loss.loss_utils import ForSequenceClassificationLoss

        outputs = model(**inputs)
        mean = ForSequenceClassificationLoss(targets, outputs.logits, self.configuration)
        return mean if items is None else mean * len(targets) / items, outputs


def prepare(start: Start, _: list[Any], __: Standard) -> Loss:
    """Return the loss for the problem that the model was loaded for."""
    return Loss(start.model.config)
