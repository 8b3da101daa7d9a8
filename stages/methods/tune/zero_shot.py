"""Let nothing learn: a row gets the label whose name is nearest to it by the base model.

The head is what the base model makes of texts about each label (Yin, Hay & Roth 2019, by
embeddings). No label of train is read.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from stages.contract.learning import Learning, Rows
from stages.contract.protocols import Start
from stages.models import linear
from stages.params.finetune import ZeroShot


def prepare(start: Start, learning: Learning, settings: ZeroShot) -> tuple[Any, Learning]:
    """Set the head to the labels' embeddings, and leave no train rows to learn from.

    Logits are cosines over the temperature if what reaches the head has the length that layer
    normalisation gives it, and proportional to cosines otherwise.
    """
    layer = linear.head(start.model, start.new)
    texts = [_about(label, template, settings) for label in start.labels
             for template in settings.templates]  # fmt: skip
    seen = _features(start, learning, layer, pd.DataFrame({"x": texts}))
    means = _unit(_unit(seen).reshape(len(start.labels), len(settings.templates), -1).mean(axis=1))
    weights = means / (settings.temperature * means.shape[1] ** 0.5)
    solved = linear.Solved(weights.astype(np.float32), np.zeros(len(weights), np.float32))
    solved.put_into(layer)
    start.model.requires_grad_(False)

    rows = learning.validation
    known = linear.features(start.model, layer, rows.encoded, rows.lengths, learning.collate)
    begun = linear.measured(learning, solved.outputs(known), linear.array(rows.targets))
    return start.model, replace(learning, train=Rows([], [], []), begun=begun)


def _about(label: str, template: str, settings: ZeroShot) -> str:
    """Return a template's text about a label; _ and - of its name become spaces."""
    name = label.replace("_", " ").replace("-", " ")
    description = settings.descriptions.get(label, name)
    return template.replace("{label}", name).replace("{description}", description)


def _features(start: Start, learning: Learning, layer: Any, samples: pd.DataFrame) -> Any:
    """Return what reaches the head for each text (texts, width)."""
    encoding = start.of_x.encoding
    encoded = encoding.encode(samples, start.processor, start.settings)
    lengths = encoding.lengths(encoded)
    return linear.features(start.model, layer, encoded, lengths, learning.collate)


def _unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def finish(learner: Any) -> Any:
    """Return the model unchanged."""
    return learner
