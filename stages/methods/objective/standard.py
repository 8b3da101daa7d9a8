"""Minimise the loss that transformers has for the problem.

It is binary cross-entropy for several labels, and the squared error for numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stages.contract.learning import Inputs
from stages.contract.protocols import Start
from stages.methods import losses
from stages.params.finetune import Standard


@dataclass(frozen=True)
class Loss:
    """The loss of logits (rows, outputs), as learning.Loss says."""

    of: Callable[[Any, Any, Any], Any]

    def __call__(
        self, model: Any, inputs: Inputs, targets: Any, items: Any = None, /
    ) -> tuple[Any, Any]:
        """Return the mean loss of a batch, and the model's outputs."""
        outputs = model(**inputs)
        return self.of(outputs.logits, targets, items), outputs


def prepare(start: Start, _: list[Any], __: Standard) -> Loss:
    """Return the loss for the problem that the model was loaded for."""
    return Loss(losses.of_problem(start.model.config))
