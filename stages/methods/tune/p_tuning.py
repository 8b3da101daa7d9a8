"""Let made-up tokens before each text learn through a small network, and what is new.

This is P-tuning (Liu et al. 2021), by peft. What the network gives in the end is kept.
"""

from typing import Any

from stages.contract.learning import Learning
from stages.contract.protocols import Start
from stages.methods import prompts
from stages.params.finetune import PTuning


def prepare(start: Start, learning: Learning, settings: PTuning) -> tuple[Any, Learning]:
    """Return a module around the base model in which the network learns, and the head."""
    import peft

    config = peft.PromptEncoderConfig(
        "FEATURE_EXTRACTION",
        num_virtual_tokens=settings.tokens,
        encoder_hidden_size=settings.width,
    )
    return prompts.around(start, learning, config)


def finish(learner: Any) -> Any:
    """Return the model with its tokens, which cannot be merged into its weights."""
    return learner.model
