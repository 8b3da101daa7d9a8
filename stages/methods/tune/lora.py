"""Let low-rank updates of linear layers and convolutions learn, and what is new.

This is LoRA (Hu et al. 2021), by peft; merged, the updates make a plain model.
"""

from typing import Any

from stages.contract.errors import ModelError
from stages.contract.escape import extract, one_line
from stages.contract.plugins import Learning
from stages.methods import batchnorm
from stages.params.finetune import Lora


def prepare(
    model: Any, new: frozenset[str], learning: Learning, settings: Lora
) -> tuple[Any, Learning]:
    """Return a peft model around the base model.

    Updates of the targets learn, and the modules that contain what is new.
    """
    import peft

    targets = settings.targets if isinstance(settings.targets, str) else list(settings.targets)
    names = [name for name, _ in model.named_modules()]
    unknown = (
        [
            target
            for target in targets
            if not any(f".{name}".endswith(f".{target}") for name in names)
        ]
        if isinstance(targets, list)
        else []
    )
    if unknown:  # peft is content if one of them fits
        raise ModelError(
            "finetune.tune.targets: the base model has no layer "
            f"{', '.join(map(extract, unknown))}; name linear layers, or say all-linear"
        )
    whole = sorted({name.rpartition(".")[0] for name in new})
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType]
        lora_dropout=settings.dropout,
        target_modules=targets,
        modules_to_save=whole,
    )
    try:
        learner = peft.get_peft_model(model, config)
    except ValueError as error:
        raise ModelError(
            f"finetune.tune.targets: {one_line(error, 300)}; name linear layers of the base model, "
            "or all-linear"
        ) from error
    batchnorm.hold_frozen(learner)
    return learner, learning


def finish(learner: Any) -> Any:
    """Return the base model with the updates merged into its weights."""
    return learner.merge_and_unload()
