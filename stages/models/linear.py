"""Fit the head of a model as a linear model of what reaches it.

It is fitted to the optimum, with no learning rate and no epochs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.contract.errors import ModelError
from stages.contract.history import Entry
from stages.contract.learning import Encoded, Learning, Rows
from stages.contract.problem import Problem
from stages.contract.progress import Progress
from stages.contract.protocols import Start
from stages.models import device

Array = np.ndarray[Any, Any]

BATCH = 32  # rows that go through the model at a time, of the longest
# Rows of which a tenth is too few to choose by, and the parts that all are cut into instead.
FEW, FOLDS = 2_000, 5


@dataclass(frozen=True)
class Solved:
    """A linear model of unscaled features: weights (outputs, width) and bias (outputs), float32."""

    weights: Array
    bias: Array

    def outputs(self, features: Array) -> Array:
        """Return the outputs (rows, outputs)."""
        return features @ self.weights.T + self.bias

    def put_into(self, layer: Any) -> None:
        """Set the weights of a torch linear layer."""
        import torch

        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self.weights))
            layer.bias.copy_(torch.from_numpy(self.bias))


def head(model: Any, new: frozenset[str]) -> Any:
    """Return the one layer of a model that is new.

    Raises ModelError if several layers are new: then nothing pretrained reaches the last of them.
    """
    import torch

    names = sorted({name.rpartition(".")[0] for name in new})
    layer = model.get_submodule(names[0]) if len(names) == 1 else None
    if not isinstance(layer, torch.nn.Linear) or f"{names[0]}.bias" not in new:
        raise ModelError(
            "finetune.head: the new head of this base model is not one linear layer "
            f"({', '.join(names)}), so none can be solved; say random"
        )
    return layer


def features(model: Any, layer: Any, encoded: Encoded, lengths: list[int], collate: Any) -> Array:
    """Return what reaches a layer for each row (rows, width), float32.

    Afterwards the model is on its device and in evaluation mode.
    """
    import torch

    model.to(device.find()).eval()
    reached, values = list[Any](), list[Any]([None]) * len(encoded)
    caught = layer.register_forward_pre_hook(
        lambda _, given: reached.append(given[0].detach().float().cpu().numpy())
    )
    try:
        with torch.no_grad(), Progress("run the base model", len(encoded)) as going:
            for batch, inputs in device.batches(encoded, lengths, collate, BATCH):
                model(**inputs)
                for i, row in zip(batch, reached.pop(), strict=True):
                    values[i] = row
                going.advance(len(batch))
    finally:
        caught.remove()
    return np.stack(values)


def solve(
    of_y: Problem, known: Array, targets: Array, outputs: int, c: float, balanced: bool = False
) -> Solved:
    """Return the problem's linear model (C = c) of features (rows, width).

    The features are scaled to variance one for the fit; balanced weighs labels alike.
    """
    from sklearn.preprocessing import StandardScaler

    scaler: Any = StandardScaler().fit(known)
    weights, bias = of_y.fit(scaler.transform(known), targets, outputs, c, balanced)
    weights = weights / scaler.scale_
    bias = bias - weights @ scaler.mean_
    return Solved(weights.astype(np.float32), bias.astype(np.float32))


def choose(
    of_y: Problem,
    known: Array,
    targets: Array,
    asked: Array,
    targets_asked: Array,
    outputs: int,
    cs: tuple[float, ...],
    balanced: bool = False,
) -> float:
    """Return the C under which targets that were not learned from are likeliest.

    They come from cross-validation if rows are FEW, and are those asked otherwise. Their likelihood
    tells more than a score of the predictions would.
    """
    from sklearn.utils.class_weight import compute_sample_weight

    if len(cs) == 1:
        return cs[0]
    features, every = np.concatenate([known, asked]), np.concatenate([targets, targets_asked])
    weights = compute_sample_weight("balanced", every) if balanced else np.ones(len(every))
    folds = list(_folds(every, len(known)))

    def likelihood(c: float) -> float:
        total = 0.0
        for learned, others in folds:
            solved = solve(of_y, features[learned], every[learned], outputs, c, balanced)
            likely = of_y.likelihood(solved.outputs(features[others]), every[others])
            # A label that no row of this fold has says nothing about C.
            finite = np.isfinite(likely)
            total += float((weights[others] * likely)[finite].sum())
        return total

    return max(sorted(cs), key=likelihood)


def _folds(targets: Array, known: int) -> Any:
    """Return the rows to learn from and the others, for each fold.

    If rows are many, the only fold learns from the first `known` rows; the others are the rest.
    """
    from sklearn.model_selection import KFold, StratifiedKFold

    classes = targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer)
    times = min(
        FOLDS, int(np.unique(targets, return_counts=True)[1].min()) if classes else len(targets)
    )
    if len(targets) > FEW or times < 2:
        return [(np.arange(known), np.arange(known, len(targets)))]
    return (StratifiedKFold if classes else KFold)(times, shuffle=True, random_state=0).split(
        targets, targets if classes else None
    )


def array(targets: Sequence[Any]) -> Array:
    """Return targets as an array: whole numbers unchanged, others as float32, as torch has them."""
    values = np.array(targets)
    return values.astype(np.float32) if np.issubdtype(values.dtype, np.floating) else values


@dataclass(frozen=True)
class Begun:
    """How a head begins: what validation says of it at epoch 0, and by which outputs and targets.

    learn_both gives the head of a model the linear model of train and validation, in case no epoch
    is better.
    """

    measured: Entry
    outputs: Array
    targets: Array
    learn_both: Callable[[Any], None]


def begin(
    start: Start, train: Rows, learning: Learning, cs: tuple[float, ...], balanced: bool
) -> Begun:
    """Let the head of a model begin as the problem's linear model of train.

    Its C is the one that choose returns. This is linear probing, then fine-tuning (Kumar et al.
    2022): no head that begins at random distorts the features.
    """
    of_y, layer = start.of_y, head(start.model, start.new)
    known, asked = (
        features(start.model, layer, rows.encoded, rows.lengths, learning.collate)
        for rows in (train, learning.validation)
    )
    y, targets = array(train.targets), array(learning.validation.targets)
    width = layer.out_features
    c = choose(of_y, known, y, asked, targets, width, cs, balanced)
    solved = solve(of_y, known, y, width, c, balanced)
    outputs = solved.outputs(asked)
    solved.put_into(layer)
    entry = measured(learning, outputs, targets)
    print(
        f"head: a linear model, C = {c:g} of {', '.join(f'{value:g}' for value in sorted(cs))}: "
        f"validation {learning.metric} {entry.validation[learning.metric]:.4f}"
    )

    def learn_both(trained: Any) -> None:
        every = np.concatenate([known, asked]), np.concatenate([y, targets])
        solve(of_y, *every, width, c, balanced).put_into(head(trained, start.new))

    return Begun(entry, outputs, targets, learn_both)


def measured(learning: Learning, outputs: Array, targets: Array) -> Entry:
    """Return what validation says of a head before the first step."""
    import torch
    from transformers.modeling_outputs import SequenceClassifierOutput

    logits: Any = torch.from_numpy(outputs)
    said = SequenceClassifierOutput(logits=logits)
    with torch.no_grad():
        loss, _ = learning.loss(lambda **_: said, {}, torch.from_numpy(targets))
    return Entry(0.0, 0, {}, learning.measure(outputs, targets) | {"loss": float(loss)})
