"""Minimise the negative log-likelihood of the right label.

Some of the target may be spread over all labels (Szegedy et al. 2016).
"""

from dataclasses import dataclass, replace
from typing import Any

from stages.contract.learning import Inputs, Learning
from stages.contract.protocols import Start
from stages.methods import losses
from stages.params.finetune import CrossEntropy


@dataclass(frozen=True)
class Loss:
    """The loss of logits (rows, labels) against targets (rows,), as learning.Loss says.

    weights (labels,) may be None.
    """

    weights: Any
    smoothing: float

    def __call__(
        self, model: Any, inputs: Inputs, targets: Any, items: Any = None, /
    ) -> tuple[Any, Any]:
        """Return the mean loss of a batch, and the model's outputs."""
        from torch.nn.functional import cross_entropy

        outputs = model(**inputs)
        total = cross_entropy(
            outputs.logits,
            targets,
            weight=None if self.weights is None else self.weights.to(outputs.logits),
            reduction="sum",
            label_smoothing=self.smoothing,
        )
        return total / (len(targets) if items is None else items), outputs


def prepare(_: Start, learning: Learning, settings: CrossEntropy) -> Learning:
    """Return what to learn from, with the loss; balanced weights are by the rows of each label."""
    weights = losses.weights(learning.train.targets, settings.balanced)
    return replace(learning, loss=Loss(weights, settings.label_smoothing))
