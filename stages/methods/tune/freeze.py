"""Let the top layers learn, and what is new.

Embeddings and lower layers stay as they are, and are computed once if the rows stay too.
"""

from typing import Any

from stages.contract.errors import ModelError
from stages.contract.learning import Learning
from stages.contract.protocols import Start
from stages.methods import layers, prefix
from stages.params.finetune import Freeze


def prepare(start: Start, learning: Learning, settings: Freeze) -> tuple[Any, Learning]:
    """Freeze all but the top layers, what is above them, and what is new.

    What is frozen is in evaluation mode. The layers are the longest list of modules in the base
    model (of a ResNet: its stages); a module that is registered after it is above it.
    """
    model = start.model
    stack_name, found = layers.stack(model)
    if settings.layers > len(found):
        raise ModelError(
            f"finetune.tune.layers: {settings.layers} top layers are to learn, and the base model "
            f"has {len(found)}"
        )
    lowest, above = len(found) - settings.layers, False
    for name, parameter in model.named_parameters():
        above = above or name.startswith(f"{stack_name}.{lowest}.")
        parameter.requires_grad_(above or name in start.new)
    prefix.hold(model)
    return prefix.cut(model, found, lowest, learning)


def finish(learner: Any) -> Any:
    """Return the whole model."""
    return learner.whole() if hasattr(learner, "whole") else learner
