"""Let made-up tokens before each text learn, and what is new.

This is prompt tuning (Lester, Al-Rfou & Constant 2021), by peft.
"""

from typing import Any

from stages.contract.learning import Learning
from stages.contract.protocols import Start
from stages.methods import prompts
from stages.params.finetune import Prompt


def prepare(start: Start, learning: Learning, settings: Prompt) -> tuple[Any, Learning]:
    """Return a module around the base model in which tokens learn, and the head."""
    import peft

    config = peft.PromptTuningConfig("FEATURE_EXTRACTION", num_virtual_tokens=settings.tokens)
    return prompts.around(start, learning, config)


def finish(learner: Any) -> Any:
    """Return the model with its tokens, which cannot be merged into its weights."""
    return learner.model
