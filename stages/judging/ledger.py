"""Counts how often test rows were used to decide, and says what level is left for the next use."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

# Of the level: less is left from the third use on. A fourth use needs 2.2 times the rows of a first
# to show the same difference.
LITTLE = 0.2


@dataclass(frozen=True)
class Use:
    """One decision: a candidate judged against a version on test rows."""

    candidate: str
    """sha256"""
    against: str
    """sha256 of the version; baselines if there is none"""
    rows: frozenset[str]
    """ids"""


@dataclass(frozen=True)
class Spending:
    """What one use takes of the level, and what is left after it."""

    use: int
    level: float
    left: float
    advice: str | None
    """asks for fresh test rows if little is left"""


def number(use: Use, earlier: Sequence[Use]) -> int:
    """Return which use (1, 2, ...) of its rows this is; a repeated one keeps its number.

    Earlier uses are in their order. One counts if it shares a row with this use. So among all
    decisions in which any one row took part, the j-th has number j or more, and their levels sum to
    at most alpha. Chains do not count: a set that shares rows with a set that shares rows with a
    third has nothing of the third, and a test set that is renewed bit by bit would never be fresh.
    """
    before = earlier[: earlier.index(use)] if use in earlier else earlier
    return 1 + len({other for other in before if not other.rows.isdisjoint(use.rows)})


def level(alpha: float, use: int) -> float:
    """Return the level of the use-th decision; over all uses the levels sum to alpha.

    The series of 1 / k^2 sums to pi^2 / 6. A fixed sequence of levels bounds the chance of any
    false promotion by their sum, however later candidates were chosen; spending a total level over
    repeated looks is Lan & DeMets's idea (1983).
    """
    return alpha * 6 / (pi * use) ** 2


def spending(alpha: float, use: int) -> Spending:
    """Return what the use-th decision may spend of alpha, and advice if little is left."""
    left = alpha - sum(level(alpha, k) for k in range(1, use + 1))
    advice = (
        f"{use} decisions have used these test rows, and {left / alpha:.0%} of alpha is left: "
        "label fresh test rows before the next"
    )
    return Spending(use, level(alpha, use), left, advice if left < LITTLE * alpha else None)
