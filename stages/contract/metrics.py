"""Define how a problem states its metrics.

A row adds to the counts of each part, and a metric is a function of the sums of these counts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    Tallying = Callable[[pd.Series[Any], pd.Series[Any], list[str]], "Tally"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Tally:
    """What each row adds to the counts of each part; rows that add the same are of one kind.

    counts: (counts, kinds, parts). kinds: the kind of each row (rows,). right: whether each row is
    right (rows,), or None if no row can be. parts: what the metric is the mean over, either the
    labels or one part for all rows.
    """

    parts: list[str]
    counts: Array
    kinds: Array
    right: Array | None = None

    def rows(self) -> Array:
        """Return the number of rows of each kind (1, kinds)."""
        return np.bincount(self.kinds, minlength=self.counts.shape[1])[None, :].astype(float)

    def sums(self) -> Array:
        """Return the sums over all rows (counts, 1, parts)."""
        return sums(self.counts, self.rows())


@dataclass(frozen=True)
class Ratio:
    """The value of a metric that is a ratio of linear functions of the counts.

    It is 0 if the lower one is 0.
    """

    top: Callable[[Array], Array]
    bottom: Callable[[Array], Array]

    def __call__(self, sums: Array) -> Array:
        """Return the score of each part (draws, parts)."""
        return ratio(self.top(sums), self.bottom(sums))

    def influence(self, counts: Array, sums: Array) -> Array:
        """Return what one row of each kind adds to the score of each part (draws, kinds, parts).

        counts is what one row of each kind adds to the counts (counts, kinds, parts).
        """
        top, bottom, total = self.top(counts), self.bottom(counts), self.bottom(sums)
        return ratio(
            top - self(sums)[:, None, :] * bottom,
            np.broadcast_to(total[:, None, :], (len(total), *top.shape)),
        )


@dataclass(frozen=True)
class Metric:
    """A score: the mean over parts of a function of the sums of their counts.

    Sums are (counts, draws, parts), and what a function returns for each part is (draws, parts).
    """

    title: str
    """what people call it"""
    part: str
    """what people call the score of a part"""
    tally: "Tallying"
    """y, predicted (same index), labels -> Tally"""
    value: Callable[[Array], Array]
    """sums -> the score of each part"""
    rows: Callable[[Array], Array]
    """sums -> the number of rows that bear each part"""
    right: tuple[float, ...] | None = None
    """what a row of a part adds if the model is right on it; None if it cannot be"""
    wrong: tuple[float, ...] | None = None
    """the same if the model is wrong on it"""
    share: Callable[[Array], tuple[Array, Array]] | None = None
    """sums -> successes and trials of each part, if its score is a function of a share of rows"""
    of_share: Callable[[Array], Array] = lambda share: share
    """that function, which grows with the share"""
    less: bool = False
    """whether less is better"""
    range: tuple[float, float] = (0.0, 1.0)
    """least and greatest value"""


F1 = Ratio(lambda counts: 2 * counts[0], lambda counts: counts[1])  # of counts_of_f1


def f1(title: str, tally: "Tallying") -> Metric:
    """Return the mean F1 over parts.

    Their counts are: rows both true and predicted; rows true or predicted, which count twice if
    they are both; rows true.
    """
    return Metric(
        title,
        "F1",
        tally,
        value=F1,
        rows=lambda sums: sums[2],
        right=(1.0, 2.0, 1.0),
        wrong=(0.0, 1.0, 1.0),
        # Among the rows that bear a label or were given it, count those to which both apply.
        share=lambda sums: (sums[0], sums[1] - sums[0]),
        of_share=lambda share: 2 * share / (1 + share),
    )


def by_label(y: Any, predicted: Any, names: list[str], averages: tuple[str, ...]) -> dict[str, Any]:
    """Return precision, recall and F1 by scikit-learn: each average's, and `labels` by name.

    y and predicted are labels, or indicators (rows, labels) in the order of names. A label that is
    never predicted has F1 0.
    """
    from sklearn.metrics import precision_recall_fscore_support

    asked: dict[str, Any] = {"zero_division": 0.0}
    if not isinstance(y, np.ndarray):
        asked["labels"] = names
    report = dict[str, Any]()
    for average in averages:
        p, r, f, _ = precision_recall_fscore_support(y, predicted, average=average, **asked)
        report |= {
            f"{average}_precision": float(p),
            f"{average}_recall": float(r),
            f"{average}_f1": float(f),
        }
    columns: Any = precision_recall_fscore_support(y, predicted, average=None, **asked)
    report["labels"] = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
        for name, p, r, f, n in zip(names, *columns, strict=True)
    }
    return report


def counts_of_f1(y: Array, predicted: Array) -> Array:
    """Return the counts of f1 (3, kinds, parts) for y and predicted (kinds, parts), both 0 or 1."""
    return np.stack([y * predicted, y + predicted, y])


def _tally_right(y: "pd.Series[Any]", predicted: "pd.Series[Any]", _: list[str]) -> Tally:
    """Count for each row whether it is right, and 1 for the row itself."""
    right = (y == predicted).to_numpy()
    return Tally(["all"], np.array([[[0.0], [1.0]], [[1.0], [1.0]]]), right.astype(int), right)


ACCURACY = Metric(
    "accuracy",
    "accuracy",
    tally=_tally_right,
    value=Ratio(lambda counts: counts[0], lambda counts: counts[1]),
    rows=lambda sums: sums[1],
    right=(1.0, 1.0),
    wrong=(0.0, 1.0),
    share=lambda sums: (sums[0], sums[1]),
)


def sums(counts: Array, rows: Array) -> Array:
    """Return the sums (counts, draws, parts) over rows.

    counts is what a row of each kind adds (counts, kinds, parts), and rows is the number of rows
    of each kind (draws, kinds).
    """
    return np.stack([rows @ count for count in counts])


def ratio(above: Array, below: Array) -> Array:
    """Return above / below, or 0 if below is 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
