"""Let biases learn, and what is new: about one weight in a thousand of a base model.

This is BitFit (Ben Zaken, Ravfogel & Goldberg 2022).
"""

from typing import Any

from stages.contract.errors import ModelError
from stages.contract.learning import Learning
from stages.contract.protocols import Start
from stages.methods import batchnorm
from stages.params.finetune import BitFit


def prepare(start: Start, learning: Learning, _: BitFit) -> tuple[Any, Learning]:
    """Freeze all but biases and what is new."""
    for name, parameter in start.model.named_parameters():
        parameter.requires_grad_(name.endswith("bias") or name in start.new)
    learned = {name for name, value in start.model.named_parameters() if value.requires_grad}
    if not learned - start.new:
        raise ModelError("finetune.tune: the base model has no biases; say linear_probe or lora")
    batchnorm.hold_frozen(start.model)
    return start.model, learning


def finish(learner: Any) -> Any:
    """Return the model unchanged."""
    return learner
