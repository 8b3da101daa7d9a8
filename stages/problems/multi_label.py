"""Multi-label classification: y is any number of labels out of a known set."""

from typing import Any

import numpy as np
import pandas as pd

from stages.contract import cells as written
from stages.contract import characters, metrics
from stages.contract.escape import extract
from stages.contract.metrics import ACCURACY, Metric, Tally
from stages.models import loading
from stages.params.problems import MultiLabel

Array = np.ndarray[Any, Any]

ENOUGH = 200  # rows, at least, to say that a model does no better than chance
BAR = "|"  # between the labels of a row, if they are one text
NO, YES = ("0", "0.0", "false", "no", "n", ""), ("1", "1.0", "true", "yes", "y")
NONE = "(none)"  # the other side of a label that was missed or is one too many, in a confusion
HEADS = loading.CLASSIFIERS
KIND = "multi_label_classification"
CONFLICTS = True


def read(cells: "pd.Series[str]", settings: MultiLabel) -> pd.DataFrame:
    """Return y as the sorted list of its labels, and the rarest of them as stratum.

    A cell is a JSON list, labels with settings.separator between them or, for several columns, a
    JSON object of 0 and 1.
    """
    parsed = {cell: _parse(cell, settings) for cell in cells.unique()}
    frame = pd.DataFrame(
        [parsed[cell] for cell in cells], cells.index, ["y", "code", "reason"], dtype=object
    )
    rows = borne(values(frame["y"])).value_counts()
    rarest = [min(y, key=lambda label: (rows[label], label), default=None) for y in frame["y"]]
    return frame.assign(stratum=pd.Series(rarest, frame.index, dtype=object))


def _parse(cell: str, settings: MultiLabel) -> tuple[list[str], str | None, str | None]:
    """Return the labels of a cell, or no labels and a code and reason."""
    flags, listed = written.as_object(cell), written.as_list(cell)
    if flags is not None:
        odd = [value for value in flags.values() if value.strip().lower() not in (*NO, *YES)]
        if odd:
            return [], "no_flag", f"'{extract(odd[0])}' where a column of a label contains 1 or 0"
        listed = [name for name, value in flags.items() if value.strip().lower() in YES]
    elif listed is None and characters.is_blank(cell):
        if not settings.unlabelled:
            return (
                [],
                "no_label",
                "the cell is empty; write [] where no label applies, "
                "or say problem.unlabelled: true",
            )
        listed = []
    labels = [
        label.strip() for label in (cell.split(settings.separator) if listed is None else listed)
    ]
    if settings.labels is not None:
        unknown = [label for label in labels if label not in settings.labels]
        if unknown:
            return [], "unknown_label", f"label '{extract(unknown[0])}' is not in problem.labels"
        labels = [settings.labels[label] for label in labels]
    if any(characters.is_blank(label) or BAR in label for label in labels):
        return [], "no_label", f"a label is empty, or has a {BAR}, which separates labels"
    return sorted(set(labels)), None, None


def values(y: "pd.Series[Any]") -> "pd.Series[str]":
    """Return each row's labels as one text, separated by bars; it is empty without a label."""
    return y.str.join(BAR).astype("str")


def borne(values: "pd.Series[Any]") -> "pd.Series[str]":
    """Return the labels that rows bear, one at a time (index repeated)."""
    return values[values != ""].str.split(BAR).explode().astype("str")


def targets(y: "pd.Series[Any]", labels: list[str]) -> list[list[float]]:
    """Return for each row whether it bears each label (labels,), 1 or 0."""
    return [[float(label in borne) for label in labels] for borne in y.map(set)]


def truth(targets: Array, labels: list[str]) -> list[str]:
    """Return the labels that targets (rows, labels) mark, as the texts that `values` returns."""
    return [
        BAR.join(label for label, bears in zip(labels, row, strict=True) if bears > 0)
        for row in targets
    ]


def decode(outputs: Array, labels: list[str]) -> pd.DataFrame:
    """Return the labels whose probability is above a half, for each row of logits (rows, labels).

    confidence is the probability that all of them are right and no other is, if labels are
    independent.
    """
    from scipy.special import expit

    sure = expit(np.abs(outputs.astype(float))).prod(axis=1)
    return pd.DataFrame(
        {"predicted": np.array(truth(outputs, labels), dtype=object), "confidence": sure}
    )


def probabilities(outputs: Array) -> Array:
    """Return the logistic function of each logit (rows, labels)."""
    from scipy.special import expit

    return expit(outputs.astype(float))


def likelihood(outputs: Array, targets: Array) -> Array:
    """Return the log-likelihood of each row's targets under logits (both rows, labels)."""
    from scipy.special import log_expit

    return log_expit(np.where(targets > 0, outputs, -outputs).astype(float)).sum(axis=1)


def fit(
    features: Any, targets: Array, outputs: int, c: float, balanced: bool
) -> tuple[Array, Array]:
    """Return weights (labels, width) and bias (labels): for each label a logistic regression.

    It is regularised (L2, C = c). A label that all rows bear, or none, is as likely as add-one
    smoothing of its rows says.
    """
    from sklearn.linear_model import LogisticRegression

    weights, bias = np.zeros((outputs, features.shape[1])), np.zeros(outputs)
    model = LogisticRegression(
        C=c, max_iter=1000, solver="newton-cg", class_weight="balanced" if balanced else None
    )
    for i, bears in enumerate(targets.T):
        if 0 < bears.sum() < len(bears):
            fitted = model.fit(features, bears)
            weights[i], bias[i] = fitted.coef_[0], fitted.intercept_[0]
        else:
            bias[i] = np.log((bears.sum() + 1) / (len(bears) - bears.sum() + 1))
    return weights, bias


def constant(values: "pd.Series[Any]") -> str:
    """Return the labels that more than half of the rows bear."""
    shares = borne(values).value_counts() / len(values)
    return BAR.join(sorted(shares.index[shares > 0.5]))


def measure(y: list[str], predicted: list[str], labels: list[str]) -> dict[str, Any]:
    """Return the share of rows with exactly the right labels, and precision, recall and F1.

    These are macro, micro, and per label. A label that is never predicted has F1 0.
    """
    true, guessed = (_indicators(pd.Series(each, dtype=object), labels) for each in (y, predicted))
    exact = float(np.mean(np.array(y, object) == np.array(predicted, object)))
    report = {"accuracy": exact, "rows": len(y)}
    return report | metrics.by_label(true, guessed, labels, ("macro", "micro"))


def at_chance(targets: Array, outputs: Array) -> bool:
    """Return whether logits (rows, labels) know no more of the targets than chance.

    That is so if they make the targets no likelier than the shares of the labels do, over at least
    ENOUGH rows.
    """
    share = targets.mean(axis=0)
    mixed = (share > 0) & (share < 1)
    of_shares = (
        share[mixed] * np.log(share[mixed]) + (1 - share[mixed]) * np.log(1 - share[mixed])
    ).sum()
    return len(targets) >= ENOUGH and bool(likelihood(outputs, targets).mean() <= of_shares)


def confusions(y: "pd.Series[Any]", predicted: "pd.Series[Any]") -> pd.DataFrame:
    """Return the columns actual and predicted of a confusion matrix.

    There is a row for each label that is right, that is missed, or that is one too many.
    """
    true, guessed = _split(y), _split(predicted)
    pairs = [
        pair
        for actual, given in zip(true, guessed, strict=True)
        for pair in [
            *((label, label) for label in actual & given),
            *((label, NONE) for label in actual - given),
            *((NONE, label) for label in given - actual),
        ]
    ]
    return pd.DataFrame(sorted(pairs), columns=["actual", "predicted"])


def _split(values: "pd.Series[Any]") -> list[frozenset[str]]:
    """Return the labels of each text that `values` returns."""
    return [frozenset(value.split(BAR)) if value else frozenset() for value in values]


def _indicators(values: "pd.Series[Any]", labels: list[str]) -> Array:
    """Return whether each row bears each label (rows, labels), 1 or 0."""
    codes, unique = pd.factorize(values)
    bears = [[float(label in borne) for label in labels] for borne in _split(pd.Series(unique))]
    return np.array(bears, dtype=float).reshape(-1, len(labels))[codes]


def _tally(y: "pd.Series[str]", predicted: "pd.Series[str]", labels: list[str]) -> Tally:
    """Return the counts of each label."""
    kinds, pairs = pd.factorize(pd.Series(list(zip(y, predicted, strict=True)), dtype=object))
    true, guessed = (
        _indicators(pd.Series([pair[side] for pair in pairs], dtype=object), labels)
        for side in (0, 1)
    )
    return Tally(labels, metrics.counts_of_f1(true, guessed), kinds, (y == predicted).to_numpy())


def _tally_micro(y: "pd.Series[str]", predicted: "pd.Series[str]", labels: list[str]) -> Tally:
    """Return the counts of all labels together."""
    of_labels = _tally(y, predicted, labels)
    return Tally(
        ["all"], of_labels.counts.sum(axis=2, keepdims=True), of_labels.kinds, of_labels.right
    )


METRICS: dict[str, Metric] = {
    "macro_f1": metrics.f1("macro-F1", _tally),
    "micro_f1": Metric(
        "micro-F1",
        "F1",
        _tally_micro,
        value=metrics.F1,
        rows=lambda sums: sums[2],
    ),
    "accuracy": ACCURACY,
}
HEADLINES = {name: each.title for name, each in METRICS.items()}
OF_SLICES = "accuracy"
