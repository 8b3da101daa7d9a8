"""Minimise the loss of rows, and how much dropout changes what the model says of them.

Each row goes through the model twice, with two draws of dropout (R-Drop, Liang et al. 2021).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stages.contract.errors import ModelError
from stages.contract.learning import Inputs
from stages.contract.protocols import Start
from stages.methods import losses
from stages.params.finetune import Consistency


@dataclass(frozen=True)
class Loss:
    """The mean of both losses, and weight times the distance of the two outputs."""

    of: Callable[[Any, Any, Any], Any]
    one_label: bool
    weight: float

    def __call__(
        self, model: Any, inputs: Inputs, targets: Any, items: Any = None, /
    ) -> tuple[Any, Any]:
        """Return the mean loss of a batch, and the model's outputs in the first pass.

        Validation, which takes no gradient, has no dropout and is one pass.
        """
        import torch

        outputs = model(**inputs)
        loss = self.of(outputs.logits, targets, items)
        if not torch.is_grad_enabled():
            return loss, outputs
        again = model(**inputs)
        loss = (loss + self.of(again.logits, targets, items)) / 2
        apart = self._distance(outputs.logits.float(), again.logits.float())
        return loss + self.weight * apart / (len(targets) if items is None else items), outputs

    def _distance(self, first: Any, second: Any) -> Any:
        """Return the sum over rows of the distance of two outputs (rows, outputs).

        It is the mean of both Kullback-Leibler divergences of labels that exclude each other, else
        the squared difference.
        """
        if not self.one_label:
            return (first - second).square().mean(1).sum()
        first, second = first.log_softmax(-1), second.log_softmax(-1)
        return ((first.exp() - second.exp()) * (first - second)).sum() / 2


def prepare(start: Start, _: list[Any], settings: Consistency) -> Loss:
    """Return the loss; raises ModelError if the model has no dropout that could differ."""
    import torch

    rates = [layer.p for layer in start.model.modules() if isinstance(layer, torch.nn.Dropout)]
    if not any(rates):
        raise ModelError(
            "finetune.objective: the base model has no dropout, so both passes are the same; set "
            "finetune.dropout, or say standard or cross_entropy"
        )
    of_one = start.model.config.problem_type in (None, "single_label_classification")
    return Loss(losses.of_problem(start.model.config), of_one, settings.weight)
