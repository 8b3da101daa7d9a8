"""Classification: y is one label out of a known set."""

from typing import Any

import numpy as np
import pandas as pd

from stages.contract import characters, metrics
from stages.contract.cells import as_list
from stages.contract.escape import extract
from stages.contract.metrics import ACCURACY, Metric, Tally
from stages.models import loading
from stages.params.problems import Classification

Array = np.ndarray[Any, Any]

ENOUGH = 200  # rows, at least, to say that a model does no better than chance
HEADS = loading.CLASSIFIERS
KIND = "single_label_classification"
CONFLICTS = True


def read(cells: "pd.Series[str]", settings: Classification) -> pd.DataFrame:
    """Return y as a list with the name of its one label.

    A label that is empty, not declared, or a list of several is set aside.
    """
    names = settings.labels
    named = cells if names is None else cells.map(names)
    frame = pd.DataFrame(
        {
            "y": [[str(n)] for n in named.tolist()],
            "stratum": named.astype(object),
            "code": None,
            "reason": None,
        },
        index=cells.index,
        dtype=object,
    )
    frame.loc[named.isna(), "code"] = "unknown_label"
    frame.loc[named.isna(), "reason"] = [
        f"label '{extract(value)}' is not in problem.labels" for value in cells[named.isna()]
    ]
    several = cells.map(lambda cell: as_list(str(cell)) is not None).astype(bool) & (
        named.isna() | (names is None)
    )
    frame.loc[several, ["code", "reason"]] = [
        "several_labels",
        "a list of labels, where one is learned; say problem: {name: multi_label, ...}",
    ]
    blank = cells.map(characters.is_blank).astype(bool)
    frame.loc[blank, ["code", "reason"]] = ["no_label", "the label is empty"]
    return frame


def values(y: "pd.Series[Any]") -> "pd.Series[str]":
    """Return each row's label."""
    return y.str[0].astype("str")


def borne(values: "pd.Series[Any]") -> "pd.Series[str]":
    """Return each row's label."""
    return values


def targets(y: "pd.Series[Any]", labels: list[str]) -> list[int]:
    """Return the index of each row's label."""
    return pd.Categorical(values(y), categories=labels).codes.tolist()


def truth(targets: Array, labels: list[str]) -> list[str]:
    """Return the label of each target index."""
    return [labels[i] for i in targets]


def decode(outputs: Array, labels: list[str]) -> pd.DataFrame:
    """Return the likeliest label of each row of logits (rows, labels), and its probability.

    The probability is the softmax of the logits.
    """
    probability = probabilities(outputs)
    best = probability.argmax(axis=1)
    return pd.DataFrame(
        {"predicted": np.array(labels, dtype=object)[best], "confidence": probability.max(axis=1)}
    )


def probabilities(outputs: Array) -> Array:
    """Return the softmax of logits (rows, labels)."""
    exponent = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return exponent / exponent.sum(axis=1, keepdims=True)


def likelihood(outputs: Array, targets: Array) -> Array:
    """Return the log-likelihood of each target (rows,).

    It is taken under the softmax of logits (rows, labels).
    """
    from scipy.special import log_softmax

    return log_softmax(outputs.astype(float), axis=1)[np.arange(len(outputs)), targets]


def fit(
    features: Any, targets: Array, outputs: int, c: float, balanced: bool
) -> tuple[Array, Array]:
    """Return weights (labels, width) and bias (labels) of logistic regression (L2, C = c).

    A label that is no target has no likelihood. Newton's method with conjugate gradients converges
    in some ten steps; L-BFGS takes a hundred.
    """
    from sklearn.linear_model import LogisticRegression

    weigh = "balanced" if balanced else None
    model = LogisticRegression(C=c, max_iter=1000, solver="newton-cg", class_weight=weigh)
    fitted = model.fit(features, targets)
    weights, bias = fitted.coef_, fitted.intercept_
    if len(weights) == 1:  # for two labels scikit-learn keeps only the difference
        weights, bias = np.vstack([-weights / 2, weights / 2]), np.append(-bias / 2, bias / 2)
    if len(weights) == outputs:
        return weights, bias
    every, biases = np.zeros((outputs, weights.shape[1])), np.full(outputs, -np.inf)
    every[fitted.classes_], biases[fitted.classes_] = weights, bias
    return every, biases


def constant(values: "pd.Series[Any]") -> str:
    """Return the most frequent label."""
    return values.mode().iloc[0]


def measure(y: list[str], predicted: list[str], labels: list[str]) -> dict[str, Any]:
    """Return accuracy, and precision, recall and F1: macro, micro, weighted and per label.

    The definitions are scikit-learn's. A label that is never predicted has F1 0. With one label for
    each row, micro F1 is accuracy.
    """
    from sklearn.metrics import accuracy_score

    report = {"accuracy": float(accuracy_score(y, predicted)), "rows": len(y)}
    return report | metrics.by_label(y, predicted, labels, ("macro", "micro", "weighted"))


def at_chance(targets: Array, outputs: Array) -> bool:
    """Return whether logits (rows, labels) know no more of the targets than chance.

    That is so if the labels they predict agree within one standard error of what independence gives
    (Cohen's kappa of about 0), and if they make the targets no likelier than the shares of the
    labels do. Fewer than ENOUGH rows cannot show this, and the answer is False.
    """
    rows, labels_there = len(targets), outputs.shape[1]
    if rows < ENOUGH:
        return False
    predicted = outputs.argmax(axis=1)
    true, guessed = (
        np.bincount(each, minlength=labels_there) / rows for each in (targets, predicted)
    )
    chance = float(true @ guessed)
    likely = float(likelihood(outputs, targets).mean())
    of_shares = float((true[true > 0] * np.log(true[true > 0])).sum())
    return bool(
        (predicted == targets).mean() <= chance + np.sqrt(chance * (1 - chance) / rows)
        and likely <= of_shares
    )


def confusions(y: "pd.Series[Any]", predicted: "pd.Series[Any]") -> pd.DataFrame:
    """Return the columns actual and predicted of a confusion matrix: a row for each prediction."""
    return pd.DataFrame({"actual": y, "predicted": predicted})


def _tally_f1(y: "pd.Series[str]", predicted: "pd.Series[str]", labels: list[str]) -> Tally:
    code = {name: i for i, name in enumerate(labels)}
    known, guessed = (side.map(code).fillna(-1).to_numpy(dtype=int) + 1 for side in (y, predicted))
    # One number for each pair is many times faster than pairs.
    pairs, kinds = np.unique(known * (len(labels) + 1) + guessed, return_inverse=True)
    known, guessed = (
        (side[:, None] - 1 == np.arange(len(labels))).astype(float)
        for side in np.divmod(pairs, len(labels) + 1)
    )
    return Tally(labels, metrics.counts_of_f1(known, guessed), kinds, (y == predicted).to_numpy())


METRICS: dict[str, Metric] = {"macro_f1": metrics.f1("macro-F1", _tally_f1), "accuracy": ACCURACY}
HEADLINES = {name: each.title for name, each in METRICS.items()} | {"weighted_f1": "weighted F1"}
OF_SLICES = "accuracy"
