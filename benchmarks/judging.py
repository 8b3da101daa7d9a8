"""Measure the gate: how often it promotes an equal model, finds a better one, and covers the truth.

python -m benchmarks.judging alarms | power | coverage | methods | weekly [--draws N]

Rows are drawn from a known population: a row has a label, and what each of two models says of it.
The arithmetic is the gate's own (stages/judging/evidence.contrast), on many draws at once.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import norm, t

from stages.contract.metrics import counts_of_f1
from stages.judging import ledger
from stages.judging.evidence import contrast, influence
from stages.problems.classification import METRICS

Array = np.ndarray[Any, Any]
F1 = METRICS["macro_f1"]
ALPHA, PLAIN = 0.10, 0.05  # in all; and what a gate without a ledger spends each time
ACCURACY, DISAGREEMENT = 0.85, 0.08
BOTH_WRONG = 0.1  # of the rows on which models differ, if there are more than two labels
FAR = {"gain": 0.6, "disagreement": 0.7, "accuracy": 0.6}
RARE = (3, 9, 138, 130, 120, 100)  # rows of 500
WEEKS, RESAMPLES = 52, 1000
AT_A_TIME = 250  # draws, which bounds memory


@dataclass(frozen=True)
class Population:
    """What two models say of rows: each cell (y, candidate, baseline) has a probability."""

    cells: Array
    probability: Array
    labels: int

    def draw(self, rows: int, draws: int, drawn: np.random.Generator) -> Array:
        """Return how many rows fall in each cell, of shape (draws, cells)."""
        return drawn.multinomial(rows, self.probability, size=draws).astype(float)

    def draw_by_label(self, rows: tuple[int, ...], draws: int, drawn: np.random.Generator) -> Array:
        """Return the same for a test set with exactly so many rows of each label."""
        counts = np.zeros((draws, len(self.probability)))
        for label, number in enumerate(rows):
            of = self.cells[0] == label
            counts[:, of] = drawn.multinomial(
                number, self.probability[of] / self.probability[of].sum(), size=draws
            )
        return counts

    def difference(self) -> float:
        """Return the true difference in macro-F1."""
        f1, _ = contrast(self.probability[None, :] * 1e9, *said(self.cells, self.labels), F1)
        return float((f1[0, 0] - f1[0, 1]).mean())


def population(
    shares: Sequence[float],
    gain: float,
    disagreement: float = DISAGREEMENT,
    accuracy: float = ACCURACY,
) -> Population:
    """Return models that differ on a share of the rows, the candidate better by the gain.

    The gain is in accuracy; errors fall on any label. `accuracy` is the mean of both models'.
    """
    labels = len(shares)
    y, a, b = cells = np.stack(np.meshgrid(*[np.arange(labels)] * 3, indexing="ij")).reshape(3, -1)
    both_wrong = BOTH_WRONG * disagreement if labels > 2 else 0.0
    one_right = disagreement - both_wrong
    both_right = accuracy - one_right / 2
    kinds = [
        ((a == y) & (b == y), both_right),
        ((a == y) & (b != y), (one_right + gain) / 2),
        ((a != y) & (b == y), (one_right - gain) / 2),
        ((a != y) & (a != b) & (b != y), both_wrong),
        ((a != y) & (a == b), 1 - both_right - disagreement),
    ]
    within = sum(of * share / max(of[y == 0].sum(), 1) for of, share in kinds)
    return Population(cells, within * (np.array(shares) / sum(shares))[y], labels)


def said(cells: Array, labels: int) -> tuple[Array, Array]:
    """Return what a row of each cell adds to the counts of the metric, for each of the two models.

    The models are the candidate and the baseline, and each array is (counts, cells, labels).
    """
    y, candidate, baseline = ((side[:, None] == np.arange(labels)).astype(float) for side in cells)
    return counts_of_f1(y, candidate), counts_of_f1(y, baseline)


def estimated(counts: Array, cells: Array, labels: int) -> tuple[Array, Array]:
    """Return differences in macro-F1 and their standard errors, by the gate's own arithmetic.

    It takes a part of the draws at a time.
    """
    parts = [
        contrast(counts[i : i + AT_A_TIME], *said(cells, labels), F1)
        for i in range(0, len(counts), AT_A_TIME)
    ]
    f1, covariance = (np.concatenate(of) for of in zip(*parts, strict=True))
    return (f1[:, 0] - f1[:, 1]).mean(axis=1), np.sqrt(covariance.sum(axis=(1, 2))) / labels


def bounds(counts: Array, of: Population, level: float) -> tuple[Array, Array]:
    """Return lower and upper bounds, each at the level, as the gate computes them."""
    difference, spread = estimated(counts, of.cells, of.labels)
    reach = norm.ppf(1 - level) * spread
    return difference - reach, difference + reach


def shares(of: Population, counts: Array, level: float) -> dict[str, float]:
    """Return how often the gate promotes and how often it rejects at a level."""
    low, high = bounds(counts, of, level)
    return {
        "promoted": round(float((low > 0).mean()), 4),
        "rejected": round(float((high <= 0).mean()), 4),
    }


def alarms(draws: int) -> Iterator[dict[str, Any]]:
    """Yield how often an equal model is promoted at the first use of a test set."""
    drawn = np.random.default_rng(0)
    for name, labels in {"4 equal labels": (1.0,) * 4, "6 labels, two rare": RARE}.items():
        of = population(labels, 0.0)
        for rows in (191, 1000, 5000):
            yield {
                "labels": name,
                "rows": rows,
                "level": round(ledger.level(ALPHA, 1), 4),
            } | shares(of, of.draw(rows, draws, drawn), ledger.level(ALPHA, 1))


def power(draws: int) -> Iterator[dict[str, Any]]:
    """Yield how often a gain of two points in macro-F1 is found, by rows and by their use."""
    drawn, of = np.random.default_rng(0), population((1.0,) * 4, 0.02)
    for rows, use in (
        (191, 1),
        (1000, 1),
        (1000, 2),
        (1000, 3),
        (1000, 4),
        (1000, 10),
        (5000, 1),
        (5000, 10),
    ):
        found = shares(of, of.draw(rows, draws, drawn), ledger.level(ALPHA, use))
        yield {
            "gain": round(of.difference(), 4),
            "rows": rows,
            "use": use,
            "level": round(ledger.level(ALPHA, use), 5),
        } | found


def held(low: Array, high: Array, truth: float) -> float:
    """Return the share of intervals that contain the truth."""
    return round(float(((low <= truth) & (truth <= high)).mean()), 4)


def coverage(draws: int) -> Iterator[dict[str, Any]]:
    """Yield how often two-sided 95 % intervals of the difference in macro-F1 contain the truth."""
    drawn = np.random.default_rng(0)
    for labels in (2, 4, 6):
        for gain in (0.0, 0.02):
            of = population((1.0,) * labels, gain)
            for rows in (60, 191, 1000, 5000):
                yield {
                    "labels": labels,
                    "rows": rows,
                    "gain": gain,
                    "held": held(*bounds(of.draw(rows, draws, drawn), of, 0.025), of.difference()),
                }
    for gain in (0.0, 0.02):
        of = population(RARE, gain)
        low, high = bounds(of.draw_by_label(RARE, draws, drawn), of, 0.025)
        yield {
            "labels": list(RARE),
            "rows": sum(RARE),
            "gain": gain,
            "held": held(low, high, of.difference()),
        }
    of = population((1.0,) * 4, **FAR)
    yield {
        "labels": 4,
        "rows": 20,
        "gain": FAR["gain"],
        "held": held(*bounds(of.draw(20, draws, drawn), of, 0.025), of.difference()),
    }


def plain(counts: Array, cells: Array, labels: int) -> tuple[Array, Array, Array]:
    """Return differences, the influence of each cell on them (draws, cells), and standard errors.

    They are as the rows show them, with none added.
    """
    candidate, baseline = said(cells, labels)
    f1, _ = contrast(counts, candidate, baseline, F1)
    of_cell = (influence(candidate, counts, F1) - influence(baseline, counts, F1)).mean(axis=2)
    return (f1[:, 0] - f1[:, 1]).mean(axis=1), of_cell, np.sqrt((counts * of_cell**2).sum(axis=1))


def student(counts: Array, of: Population, level: float) -> tuple[Array, Array]:
    """Return bounds by t without added rows.

    The degrees of freedom come from the kurtosis of the influences (Satterthwaite 1946).
    """
    difference, of_cell, spread = plain(counts, of.cells, of.labels)
    rows, squared = counts.sum(axis=1), spread**2
    fourth = (counts * of_cell**4).sum(axis=1)
    kurtosis = np.divide(fourth * rows, squared**2, out=np.full_like(rows, 3.0), where=squared > 0)
    reach = t.ppf(1 - level, np.maximum(2 * rows / np.maximum(kurtosis - 1, 1e-9), 1)) * spread
    return difference - reach, difference + reach


def unaided(counts: Array, of: Population, level: float) -> tuple[Array, Array]:
    """Return the gate's bounds without added rows."""
    difference, _, spread = plain(counts, of.cells, of.labels)
    return difference - norm.ppf(1 - level) * spread, difference + norm.ppf(1 - level) * spread


def resampled(counts: Array, of: Population, level: float) -> dict[str, tuple[Array, Array]]:
    """Return bounds by three bootstraps: percentile, BCa, and bootstrap-t.

    They follow Efron & Tibshirani 1993, ch. 12-14.
    """
    drawn, z = np.random.default_rng(1), norm.ppf(1 - level)
    found = {name: np.empty((2, len(counts))) for name in ("percentile", "BCa", "bootstrap-t")}
    differences, influences, spreads = plain(counts, of.cells, of.labels)
    for i, (row, difference, of_cell, spread) in enumerate(
        zip(counts, differences, influences, spreads, strict=True)
    ):
        there = row > 0
        resamples = drawn.multinomial(
            int(row.sum()), row[there] / row.sum(), size=RESAMPLES
        ).astype(float)
        again, _, spread_again = plain(resamples, of.cells[:, there], of.labels)
        found["percentile"][:, i] = np.quantile(again, [level, 1 - level])
        below = ((again < difference - 1e-12).mean() + (again <= difference + 1e-12).mean()) / 2
        bias = norm.ppf(np.clip(below, 1 / RESAMPLES, 1 - 1 / RESAMPLES))
        skew = (row * of_cell**3).sum() / (6 * spread**3) if spread > 0 else 0.0
        at = norm.cdf([bias + (bias + q) / (1 - skew * (bias + q)) for q in (-z, z)])
        found["BCa"][:, i] = np.quantile(again, at)
        known = spread_again > 0
        high, low = (
            np.quantile((again[known] - difference) / spread_again[known], [1 - level, level])
            if known.any()
            else (0.0, 0.0)
        )
        found["bootstrap-t"][:, i] = difference - high * spread, difference - low * spread
    return {name: (low, high) for name, (low, high) in found.items()}


def methods(draws: int) -> Iterator[dict[str, Any]]:
    """Yield how often each way to an interval promotes at the first level, and covers at 95 %.

    To cover is to contain the truth.
    """
    drawn = np.random.default_rng(0)
    equal, better, apart = (
        population((1.0,) * 4, 0.0),
        population((1.0,) * 4, 0.02),
        population((1.0,) * 4, **FAR),
    )
    rare = population(RARE, 0.0)
    cases = {
        "equal models, 191 rows": (equal, equal.draw(191, draws, drawn)),
        "two points better, 1,000 rows": (better, better.draw(1000, draws, drawn)),
        "equal models, 500 rows, labels of 3 and 9": (rare, rare.draw_by_label(RARE, draws, drawn)),
        "far better, 20 rows": (apart, apart.draw(20, draws, drawn)),
    }
    direct: dict[str, Callable[[Array, Population, float], tuple[Array, Array]]] = {
        "the gate": bounds,
        "without added rows": unaided,
        "t": student,
    }
    for name, (of, counts) in cases.items():
        first, two_sided = (
            {n: f(counts, of, at) for n, f in direct.items()} | resampled(counts, of, at)
            for at in (ledger.level(ALPHA, 1), 0.025)
        )
        for way, (low, _) in first.items():
            yield {
                "case": name,
                "way": way,
                "promoted": round(float((low > 0).mean()), 4),
                "held": held(*two_sided[way], of.difference()),
            }


def retrained(rows: int, drawn: np.random.Generator, fresh_champions: bool) -> tuple[Array, Array]:
    """Return a year's counts (weeks, cells), and the cells.

    There is one test set, and each week another candidate that is as good as the champion. Any such
    model is right on .77 of the rows and wrong on .07, and on .16 a coin decides; so models differ
    on .08. The champion stays, or with fresh_champions another equal one is drawn each week.
    """
    labels = 4
    y = drawn.integers(0, labels, rows)
    other = (y + drawn.integers(1, labels, rows)) % labels
    chance = drawn.choice([1.0, 0.0, 0.5], rows, p=[0.77, 0.07, 0.16])
    candidates = np.where(drawn.random((WEEKS, rows)) < chance, y, other)
    champion = np.where(drawn.random((WEEKS if fresh_champions else 1, rows)) < chance, y, other)
    code = (y * labels + candidates) * labels + champion + labels**3 * np.arange(WEEKS)[:, None]
    counts = np.bincount(code.ravel(), minlength=WEEKS * labels**3).reshape(WEEKS, -1).astype(float)
    return counts, np.stack(np.unravel_index(np.arange(labels**3), (labels,) * 3))


def weekly(draws: int) -> Iterator[dict[str, Any]]:
    """Yield how many years see a false promotion; the first one makes the year a failure."""
    spent = np.array([ledger.level(ALPHA, k) for k in range(1, WEEKS + 1)])
    for fresh in (False, True):
        for rows in (191, 1000):
            drawn, failed = np.random.default_rng(0), np.zeros(2)
            for _ in range(draws):
                difference, spread = estimated(*retrained(rows, drawn, fresh), 4)
                failed += [
                    (difference > norm.ppf(1 - level) * spread).any() for level in (spent, PLAIN)
                ]
            champion = "another equal one each week" if fresh else "stays"
            yield {
                "rows": rows,
                "champion": champion,
                "with_the_ledger": failed[0] / draws,
                "plain_5_percent": failed[1] / draws,
            }


def main() -> None:
    """Print a line of JSON for each number."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    measures = {of.__name__: of for of in (alarms, power, coverage, methods, weekly)}
    parser.add_argument("measure", choices=measures)
    parser.add_argument("--draws", type=int, default=2000)
    given = parser.parse_args()
    for line in measures[given.measure](given.draws):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
