"""Minimise the loss of rows that the model is not sure of yet.

This is the focal loss (Lin et al. 2017): -(1 - p)^gamma log p, with p the probability of the right
label. Without gamma it is the cross-entropy.
"""

from dataclasses import dataclass, replace
from typing import Any

from stages.contract.learning import Inputs, Learning
from stages.contract.protocols import Start
from stages.methods import losses
from stages.params.finetune import Focal


@dataclass(frozen=True)
class Loss:
    """The loss of logits (rows, labels) against targets (rows,), as learning.Loss says.

    weights (labels,) may be None.
    """

    weights: Any
    gamma: float

    def __call__(
        self, model: Any, inputs: Inputs, targets: Any, items: Any = None, /
    ) -> tuple[Any, Any]:
        """Return the mean loss of a batch, and the model's outputs."""
        outputs = model(**inputs)
        logs = outputs.logits.float().log_softmax(-1).gather(-1, targets[:, None])[:, 0]
        each = -((1 - logs.exp()) ** self.gamma) * logs
        if self.weights is not None:
            each = each * self.weights.to(each)[targets]
        return each.sum() / (len(targets) if items is None else items), outputs


def prepare(_: Start, learning: Learning, settings: Focal) -> Learning:
    """Return what to learn from, with the loss; balanced weights are by the rows of each label."""
    weights = losses.weights(learning.train.targets, settings.balanced)
    return replace(learning, loss=Loss(weights, settings.gamma))
