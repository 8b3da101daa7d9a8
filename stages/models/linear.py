"""Fits the head of a model by logistic regression on what reaches it: to the optimum, with no learning rate and no epochs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.contract.errors import ModelError
from stages.contract.plugins import Encoded, Learning, Rows
from stages.contract.progress import Progress
from stages.models import device

Array = np.ndarray[Any, Any]

BATCH = 32  # rows that are sent through the model at once, of the longest
FEW, FOLDS = 2_000, 5  # rows of which a tenth is too few to choose by, and the parts that all of them are cut into instead


@dataclass(frozen=True)
class Solved:
    """A linear model of features as they are: weights (labels, width) and bias (labels), float32, and the labels in their order."""

    weights: Array
    bias: Array
    labels: list[Any]

    def logits(self, features: Array) -> Array:
        """Return the logits (rows, labels)."""
        return features @ self.weights.T + self.bias

    def put_into(self, layer: Any) -> None:
        """Set the weights of a torch linear layer."""
        import torch

        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self.weights))
            layer.bias.copy_(torch.from_numpy(self.bias))


def head(model: Any, new: frozenset[str]) -> Any:
    """Return the one layer of a model that is new; raises ModelError where there are several, so that nothing pretrained reaches the last of them."""
    import torch

    names = sorted({name.rpartition(".")[0] for name in new})
    layer = model.get_submodule(names[0]) if len(names) == 1 else None
    if not isinstance(layer, torch.nn.Linear) or f"{names[0]}.bias" not in new:
        raise ModelError(f"finetune.head: the new head of this base model is not one linear layer ({', '.join(names)}), so none can be solved; say random")
    return layer


def features(model: Any, layer: Any, encoded: Encoded, lengths: list[int], collate: Any) -> Array:
    """Return what reaches a layer for each row (rows, width), float32; the model is on its device and in evaluation mode afterwards."""
    import torch

    model.to(device.find()).eval()
    reached, found = list[Any](), list[Any]([None]) * len(encoded)
    caught = layer.register_forward_pre_hook(lambda _, given: reached.append(given[0].detach().float().cpu().numpy()))
    try:
        with torch.no_grad(), Progress("run the base model", len(encoded)) as going:
            for batch, inputs in device.batches(encoded, lengths, collate, BATCH):
                model(**inputs)
                for i, row in zip(batch, reached.pop(), strict=True):
                    found[i] = row
                going.advance(len(batch))
    finally:
        caught.remove()
    return np.stack(found)


def solve(known: Array, y: Any, c: float, balanced: bool = False) -> Solved:
    """Return the logistic regression (L2, C = c) of labels y on features (rows, width) that are scaled to variance one; balanced weighs labels alike.

    Newton's method with conjugate gradients converges in some ten steps where L-BFGS takes a hundred.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler: Any = StandardScaler().fit(known)
    fitted = LogisticRegression(C=c, max_iter=1000, solver="newton-cg", class_weight="balanced" if balanced else None).fit(scaler.transform(known), y)
    weights, bias = fitted.coef_, fitted.intercept_
    if len(weights) == 1:  # of two labels scikit-learn keeps the difference alone
        weights, bias = np.vstack([-weights / 2, weights / 2]), np.append(-bias / 2, bias / 2)
    weights = weights / scaler.scale_
    bias = bias - weights @ scaler.mean_
    return Solved(weights.astype(np.float32), bias.astype(np.float32), list(fitted.classes_))


def choose(known: Array, y: Any, asked: Array, y_asked: Any, cs: tuple[float, ...], balanced: bool = False) -> float:
    """Return the C by which labels that were not learned from are likeliest: by cross-validation where rows are FEW, else those asked.

    Their likelihood tells more than a score of their labels would.
    """
    from scipy.special import log_softmax
    from sklearn.utils.class_weight import compute_sample_weight

    if len(cs) == 1:
        return cs[0]
    features, labels = np.concatenate([known, asked]), np.concatenate([y, y_asked])
    weights, folds = compute_sample_weight("balanced" if balanced else None, labels), list(_folds(labels, len(known)))

    def likelihood(c: float) -> float:
        total = 0.0
        for learned, others in folds:
            solved = solve(features[learned], labels[learned], c, balanced)
            likely, codes = log_softmax(solved.logits(features[others]), axis=1), {label: i for i, label in enumerate(solved.labels)}
            total += sum(weights[row] * likely[i, codes[labels[row]]] for i, row in enumerate(others) if labels[row] in codes)
        return total

    return max(sorted(cs), key=likelihood)


def _folds(labels: Array, known: int) -> Any:
    """Return the rows to learn from and the others, for each fold: of the first `known` rows and the rest, where rows are many."""
    from sklearn.model_selection import StratifiedKFold

    times = min(FOLDS, int(np.unique(labels, return_counts=True)[1].min()))
    if len(labels) > FEW or times < 2:
        return [(np.arange(known), np.arange(known, len(labels)))]
    return StratifiedKFold(times, shuffle=True, random_state=0).split(labels, labels)


@dataclass(frozen=True)
class Begun:
    """How a head begins: what validation says of it, as of epoch 0, and the logits and targets by which it says so.

    learn_both gives the head of a model the regression on train and validation, for where no epoch is better.
    """

    measured: dict[str, float]
    logits: Array
    targets: Array
    learn_both: Callable[[Any], None]


def begin(model: Any, new: frozenset[str], train: Rows, learning: Learning, cs: tuple[float, ...], balanced: bool) -> Begun:
    """Let the head of a model begin as logistic regression on train, with the C that choose returns.

    Linear probing, then fine-tuning (Kumar et al. 2022): features are not distorted by a head that begins at random.
    """
    import torch
    from transformers.modeling_outputs import SequenceClassifierOutput

    layer = head(model, new)
    known, asked = (features(model, layer, rows.encoded, rows.lengths, learning.collate) for rows in (train, learning.validation))
    y, targets = np.array(train.targets), np.array(learning.validation.targets)
    solved = solve(known, y, c := choose(known, y, asked, targets, cs, balanced), balanced)
    logits = solved.logits(asked)
    loss = learning.loss(SequenceClassifierOutput(logits=torch.from_numpy(logits)), torch.from_numpy(targets))  # pyright: ignore[reportArgumentType]
    solved.put_into(layer)
    measured = {"epoch": 0.0, "step": 0} | {f"eval_{name}": of for name, of in learning.measure(logits, targets).items()} | {"eval_loss": float(loss)}
    tried = ", ".join(f"{of:g}" for of in sorted(cs))
    print(f"head: logistic regression, C = {c:g} of {tried}: validation {learning.metric} {measured[f'eval_{learning.metric}']:.4f}")

    def learn_both(trained: Any) -> None:
        solve(np.concatenate([known, asked]), np.concatenate([y, targets]), c, balanced).put_into(head(trained, new))

    return Begun(measured, logits, targets, learn_both)
