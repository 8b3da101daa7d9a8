"""Let every weight learn.

The table of token embeddings may stay as it is, which saves most of the optimiser's work.
"""

from typing import Any

from stages.contract.errors import ModelError
from stages.contract.learning import Learning
from stages.contract.protocols import Start
from stages.params.finetune import Full


def prepare(start: Start, learning: Learning, settings: Full) -> tuple[Any, Learning]:
    """Let all parameters learn, but the input embeddings only if the settings say so."""
    start.model.requires_grad_(True)
    if not settings.embeddings:
        try:
            start.model.get_input_embeddings().requires_grad_(False)
        except (NotImplementedError, AttributeError):  # a convolutional model has none
            raise ModelError(
                "finetune.tune.embeddings: false, and the base model has no table of embeddings; "
                "say true"
            ) from None
    return start.model, learning


def finish(learner: Any) -> Any:
    """Return the model unchanged."""
    return learner
