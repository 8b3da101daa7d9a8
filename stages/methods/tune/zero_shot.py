"""Let nothing learn: a row gets the label whose name is nearest to it by the base model.

The head is what the base model makes of texts about each label (Yin, Hay & Roth 2019, by
embeddings). No label of train is read.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from stages.contract.errors import ModelError
from stages.contract.escape import extract
from stages.contract.learning import Learning, Rows
from stages.contract.protocols import Start
from stages.methods import naming
from stages.models import linear
from stages.params.finetune import ZeroShot


def prepare(start: Start, learning: Learning, settings: ZeroShot) -> tuple[Any, Learning]:
    """Set the head to the labels' embeddings, and leave no train rows to learn from.

    Logits are cosines over the temperature if what reaches the head has the length that layer
    normalisation gives it, and proportional to cosines otherwise.
    """
    if unknown := sorted(set(settings.descriptions) - set(start.labels)):
        raise ModelError(
            f"finetune.tune.descriptions: {extract(unknown[0])} is none of the labels "
            f"{extract(', '.join(start.labels))}"
        )
    layer = linear.head(start.model, start.new)
    written = naming.texts(start.labels, settings.templates, settings.descriptions)
    rows, lengths = naming.encoded(start, written)
    seen = linear.features(start.model, layer, rows, lengths, learning.collate)
    means = _unit(_unit(seen).reshape(len(start.labels), len(settings.templates), -1).mean(axis=1))
    weights = means / (settings.temperature * means.shape[1] ** 0.5)
    solved = linear.Solved(weights.astype(np.float32), np.zeros(len(weights), np.float32))
    solved.put_into(layer)
    start.model.requires_grad_(False)

    asked = learning.validation
    known = linear.features(start.model, layer, asked.encoded, asked.lengths, learning.collate)
    begun = linear.measured(learning, solved.outputs(known), linear.array(asked.targets))
    return start.model, replace(learning, train=Rows([], [], []), begun=begun)


def _unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def finish(learner: Any) -> Any:
    """Return the model unchanged."""
    return learner
