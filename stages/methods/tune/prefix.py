"""Let made-up keys and values learn, to which every layer attends, and what is new.

This is prefix tuning (Li & Liang 2021), by peft.
"""

from typing import Any

from stages.contract.learning import Learning
from stages.contract.protocols import Start
from stages.methods import prompts
from stages.params.finetune import Prefix


def prepare(start: Start, learning: Learning, settings: Prefix) -> tuple[Any, Learning]:
    """Return a module around the base model in which keys and values learn, and the head."""
    import peft

    config = peft.PrefixTuningConfig("FEATURE_EXTRACTION", num_virtual_tokens=settings.tokens)
    return prompts.around(start, learning, config)


def finish(learner: Any) -> Any:
    """Return the model with its keys and values, which cannot be merged into its weights."""
    return learner.model
