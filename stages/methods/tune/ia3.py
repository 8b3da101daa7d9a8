"""Let factors learn, by which a layer's keys, values and feed-forward features are multiplied.

This is (IA)^3 (Liu et al. 2022), by peft; merged, the factors make a plain model.
"""

from typing import Any

from stages.contract.errors import ModelError
from stages.contract.escape import one_line
from stages.contract.learning import Learning
from stages.contract.protocols import Start
from stages.methods import batchnorm
from stages.params.finetune import Ia3


def prepare(start: Start, learning: Learning, settings: Ia3) -> tuple[Any, Learning]:
    """Return a peft model around the base model.

    Factors learn, and the modules that contain what is new.
    """
    import peft

    chosen = (
        {
            "target_modules": list(settings.targets),
            "feedforward_modules": list(settings.feedforward),
        }
        if settings.targets
        else {}
    )
    new = sorted({name.rpartition(".")[0] for name in start.new})
    try:
        learner = peft.get_peft_model(start.model, peft.IA3Config(modules_to_save=new, **chosen))  # pyright: ignore[reportArgumentType]
    except ValueError as error:
        raise ModelError(
            f"finetune.tune.targets: {one_line(error, 300)}; name layers of the base model, and "
            "which of them are feed-forward"
        ) from error
    batchnorm.hold_frozen(learner)
    return learner, learning


def finish(learner: Any) -> Any:
    """Return the base model with the factors merged into its weights."""
    return learner.merge_and_unload()
