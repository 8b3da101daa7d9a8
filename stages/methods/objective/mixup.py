"""Minimise the loss of mixtures of two pictures, for the targets of both.

They are blended (mixup, Zhang et al. 2018), or a rectangle of one replaces that of the other
(CutMix, Yun et al. 2019).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from stages.contract import learning as contract
from stages.contract.errors import ModelError
from stages.contract.learning import Inputs, Learning
from stages.contract.protocols import Start
from stages.methods import losses
from stages.params.finetune import Mixup


@dataclass(frozen=True)
class Loss:
    """The loss for both targets, each times its share of the picture."""

    plain: contract.Loss
    of: Callable[[Any, Any, Any], Any]
    settings: Mixup

    def __call__(
        self, model: Any, inputs: Inputs, targets: Any, items: Any = None, /
    ) -> tuple[Any, Any]:
        """Return the mean loss of a batch, and the model's outputs.

        Validation, which takes no gradient, is of the pictures as they are.
        """
        import torch

        if not torch.is_grad_enabled():
            return self.plain(model, inputs, targets, items)
        if "reached" in inputs:
            raise ModelError(
                "finetune.objective: pictures are mixed before the model reads them, and with "
                "tune: {name: freeze} the frozen layers are computed only once; say full, or alter "
                "pictures on the fly"
            )
        pixels, alpha = inputs["pixel_values"], self.settings.alpha
        share = float(torch.distributions.Beta(alpha, alpha).sample())
        other = torch.randperm(len(pixels)).to(pixels.device)
        if self.settings.cut:
            mixed, share = _cut(pixels, pixels[other], share)
        else:
            mixed = share * pixels + (1 - share) * pixels[other]
        outputs = model(**inputs | {"pixel_values": mixed})
        first = self.of(outputs.logits, targets, items)
        second = self.of(outputs.logits, targets[other], items)
        return share * first + (1 - share) * second, outputs


def _cut(pixels: Any, others: Any, share: float) -> tuple[Any, float]:
    """Return pictures with a rectangle of others, and the share of the first that is left."""
    import torch

    height, width = pixels.shape[-2:]
    tall, wide = (round(side * (1 - share) ** 0.5) for side in (height, width))
    top = int(torch.randint(0, height - tall + 1, ()))
    left = int(torch.randint(0, width - wide + 1, ()))
    mixed = pixels.clone()
    place = (..., slice(top, top + tall), slice(left, left + wide))
    mixed[place] = others[place]
    return mixed, 1 - tall * wide / (height * width)


def prepare(start: Start, learning: Learning, settings: Mixup) -> Learning:
    """Return what to learn from, with the loss for the problem that the model was loaded for."""
    loss = Loss(learning.loss, losses.of_problem(start.model.config), settings)
    return replace(learning, loss=loss)
