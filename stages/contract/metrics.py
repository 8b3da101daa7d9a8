"""Says what a problem states of its metrics: what a row adds to the counts of each part, and what a metric is of their sums."""

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

    counts: (counts, kinds, parts). kinds: the kind of each row (rows,). right: whether a row is right (rows,), null where none can be.
    Parts are what the metric is the mean over: the labels, or one that stands for all rows.
    """

    parts: list[str]
    counts: Array
    kinds: Array
    right: Array | None = None

    def rows(self) -> Array:
        """Return how many rows each kind has (1, kinds)."""
        return np.bincount(self.kinds, minlength=self.counts.shape[1])[None, :].astype(float)

    def sums(self) -> Array:
        """Return the sums over all rows (counts, 1, parts)."""
        return sums(self.counts, self.rows())


@dataclass(frozen=True)
class Ratio:
    """The value of a metric that is a ratio of linear functions of the counts; 0 where the lower one is."""

    top: Callable[[Array], Array]
    bottom: Callable[[Array], Array]

    def __call__(self, sums: Array) -> Array:
        """Return the score of each part (draws, parts)."""
        return ratio(self.top(sums), self.bottom(sums))

    def influence(self, counts: Array, sums: Array) -> Array:
        """Return what one row of each kind (counts, kinds, parts) adds to the score of each part (draws, kinds, parts)."""
        top, bottom, total = self.top(counts), self.bottom(counts), self.bottom(sums)
        return ratio(
            top - self(sums)[:, None, :] * bottom,
            np.broadcast_to(total[:, None, :], (len(total), *top.shape)),
        )


@dataclass(frozen=True)
class Metric:
    """A score: the mean over parts of a function of the sums of their counts. Sums are (counts, draws, parts), what a part has (draws, parts)."""

    title: str
    """as people call it"""
    part: str
    """as they call the score of a part"""
    tally: "Tallying"
    """y, predicted (same index), labels -> Tally"""
    value: Callable[[Array], Array]
    """sums -> the score of each part"""
    rows: Callable[[Array], Array]
    """sums -> the rows that bear each part"""
    right: tuple[float, ...] | None = None
    """what a row of a part adds on which a model is right; null where none can be"""
    wrong: tuple[float, ...] | None = None
    """the same where it is wrong"""
    share: Callable[[Array], tuple[Array, Array]] | None = None
    """sums -> successes and trials of each part, where its score is a function of a share of rows"""
    of_share: Callable[[Array], Array] = lambda share: share
    """that function, which grows with the share"""
    less: bool = False
    """whether less of it is better"""
    range: tuple[float, float] = (0.0, 1.0)
    """least and greatest value"""


def f1(title: str, tally: "Tallying") -> Metric:
    """Return the mean F1 over parts whose counts are: true and predicted, either (both count twice), true."""
    return Metric(
        title,
        "F1",
        tally,
        value=Ratio(lambda counts: 2 * counts[0], lambda counts: counts[1]),
        rows=lambda sums: sums[2],
        right=(1.0, 2.0, 1.0),
        wrong=(0.0, 1.0, 1.0),
        # of the rows that bear or got a label, those that do both
        share=lambda sums: (sums[0], sums[1] - sums[0]),
        of_share=lambda share: 2 * share / (1 + share),
    )


def counts_of_f1(y: Array, predicted: Array) -> Array:
    """Return the counts of f1 (3, kinds, parts) of what is true and what is predicted (kinds, parts), each 0 or 1."""
    return np.stack([y * predicted, y + predicted, y])


def _tally_right(y: "pd.Series[Any]", predicted: "pd.Series[Any]", _: list[str]) -> Tally:
    """Return whether a row is right, and that it is one."""
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
    """Return the sums (counts, draws, parts) of counts (counts, kinds, parts) over so many rows of each kind (draws, kinds)."""
    return np.stack([rows @ of for of in counts])


def ratio(above: Array, below: Array) -> Array:
    """Return above / below, 0 where below is."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
