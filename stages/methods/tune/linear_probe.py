"""Let nothing learn by steps: the head stays as it begins.

It is solved on the features of the unchanged base model.
"""

from dataclasses import replace
from typing import Any

from stages.contract.learning import Learning, Rows
from stages.contract.protocols import Start
from stages.params.finetune import LinearProbe


def prepare(start: Start, learning: Learning, _: LinearProbe) -> tuple[Any, Learning]:
    """Freeze everything, and leave no train rows to learn from."""
    start.model.requires_grad_(False)
    return start.model, replace(learning, train=Rows([], [], []))


def finish(learner: Any) -> Any:
    """Return the model unchanged."""
    return learner
