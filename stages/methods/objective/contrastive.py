"""Minimise the cross-entropy, and the distance of rows of one label from each other.

What reaches the head is drawn together for rows of one label and pushed apart for others:
supervised contrastive learning (Khosla et al. 2020), beside the cross-entropy as Gunel et al.
(2021) have it.
"""

from dataclasses import dataclass, replace
from typing import Any

from stages.contract import learning as contract
from stages.contract.learning import Inputs, Learning
from stages.contract.protocols import Start
from stages.methods import losses
from stages.params.finetune import Contrastive


@dataclass(frozen=True)
class Loss:
    """(1 - share) times the cross-entropy, share times the contrast of a batch."""

    plain: contract.Loss
    head: str
    settings: Contrastive

    def __call__(
        self, model: Any, inputs: Inputs, targets: Any, items: Any = None, /
    ) -> tuple[Any, Any]:
        """Return the mean loss of a batch, and the model's outputs.

        Validation, which takes no gradient, is the cross-entropy alone.
        """
        import torch

        if not torch.is_grad_enabled():
            return self.plain(model, inputs, targets, items)
        reached, outputs = losses.reaching(model, self.head, inputs)
        loss, _ = self.plain(lambda **_: outputs, {}, targets, items)
        contrast = losses.contrast(reached, targets, self.settings.temperature)
        contrast = contrast / (len(targets) if items is None else items)
        return (1 - self.settings.share) * loss + self.settings.share * contrast, outputs


def prepare(start: Start, learning: Learning, settings: Contrastive) -> Learning:
    """Return what to learn from, with the loss; what reaches the first new layer is compared."""
    return replace(learning, loss=Loss(learning.loss, losses.head(start.new), settings))
