"""Measure how far rows are from a reference.

The limit of a distance is what two draws of the reference itself, of the same sizes, hardly ever
exceed.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.contract.escape import one_line
from stages.domain import profiles
from stages.domain.clouds import Cloud
from stages.domain.profiles import Profile
from stages.models import activations
from stages.models.activations import RESAMPLES, Seen

Array = NDArray[Any]

LEAST_ROWS = 25  # fewer are not measured
FAMILIES = 3  # labels, rows, activations: each may be wrong at a third of the rate
DECILES = np.linspace(0.1, 0.9, 9)
JENSEN_SHANNON, KULLBACK_LEIBLER = "Jensen-Shannon, nats", "Kullback-Leibler, nats"
UNITS = {
    "frechet": "Fréchet distance over the reference's variance",
    "two_samples": "area under the curve",
}


@dataclass(frozen=True)
class Measure:
    """A distance, its limit, and what was seen on both sides.

    Two draws of the reference hardly exceed the limit.
    """

    measure: str
    distance: float
    limit: float
    unit: str
    seen: str

    @property
    def far(self) -> bool:
        """Say whether the distance is more than chance gives; true if it is no number."""
        return not self.distance <= self.limit

    @property
    def over_limit(self) -> float:
        """Return the distance as a multiple of the limit."""
        return self.distance / max(self.limit, 1e-12)

    def document(self) -> dict[str, Any]:
        """Return the measure as JSON."""
        return {**asdict(self), "far": self.far}

    def __str__(self) -> str:
        return (
            f"{self.measure} {self.distance:.3g} (limit {self.limit:.3g}, {self.unit}): {self.seen}"
        )


# ---- labels --------------------------------------------------------------------------------------


def of_labels(
    rows: dict[str, int],
    reference: dict[str, float],
    of: int | None,
    false_alarms: float,
    seed: int,
) -> Measure:
    """Return how far labels are from a reference.

    rows and reference have the same labels. `of` is the number of rows that the reference was
    counted on, or null if its shares were stated. The limit is a quantile of draws of the same
    number of rows from the reference.
    """
    here, expected = (np.array([side[name] for name in rows], float) for side in (rows, reference))
    expected /= expected.sum()
    size, drawn = int(here.sum()), np.random.default_rng(seed)
    stated = expected if of is None else drawn.multinomial(of, expected, RESAMPLES) + 0.5
    draws = drawn.multinomial(size, expected, RESAMPLES)
    limit = float(np.quantile(_kl(draws, stated), 1 - false_alarms / FAMILIES))
    distance = float(_kl(here[None], (expected if of is None else expected * of + 0.5)[None])[0])
    seen = _shares(list(rows), here, expected)
    return Measure("labels", distance, limit, KULLBACK_LEIBLER, seen)


def _shares(names: list[str], here: Array, expected: Array) -> str:
    """Say which share of the rows each label has, here and in the reference."""
    text = ", ".join(
        f"{one_line(name, 30)} {share:.3f} (reference {q:.3f})"
        for name, share, q in zip(names, here / here.sum(), expected, strict=True)
    )
    divergence = float(_js(here[None], expected[None])[0])
    return one_line(f"Jensen-Shannon {divergence:.3g}; {text}", 400)


def _kl(counts: Array, reference: Array) -> Array:
    """Return the Kullback-Leibler divergences (draws) of counts from a reference, in nats.

    counts are (draws, bins); reference is (bins), or (draws, bins) with one for each draw.
    """
    from scipy.special import rel_entr

    p, q = (
        of / of.sum(-1, keepdims=True)
        for of in (np.asarray(counts, float), np.asarray(reference, float))
    )
    return rel_entr(p, q).sum(-1)


def _js(a: Array, b: Array) -> Array:
    """Return the Jensen-Shannon divergences (draws) of two arrays of counts (draws, bins).

    They are in nats: 0 to log 2.
    """
    p, q = (of / of.sum(-1, keepdims=True) for of in (np.asarray(a, float), np.asarray(b, float)))
    middle = (p + q) / 2
    return (_kl(p, middle) + _kl(q, middle)) / 2


# ---- rows ----------------------------------------------------------------------------------------


def of_rows(reference: Profile, new: Profile, false_alarms: float, seed: int) -> list[Measure]:
    """Return the distances of new rows from the reference's rows, each with its limit.

    The limits apply together: all measures of rows are jointly wrong at a third of the rate (max-T,
    Westfall and Young 1993). If the reference has groups, new rows are far only if they are farther
    from all of it than any of its own groups is.
    """
    m, n = len(reference.group), len(new.group)
    if min(m, n) < LEAST_ROWS:
        return []
    compared = _compared(reference, new)
    group, drawn = np.array(reference.group), np.random.default_rng(seed)
    draws = (
        np.concatenate([of.draws(group == one, m, n, drawn) for of in compared])
        for one in np.unique(group)
    )
    limits = np.max([_limits(of, 1 - false_alarms / FAMILIES) for of in draws], axis=0)
    found = [(of.seen, *pair) for of in compared for pair in of.distances().items()]
    return [
        Measure(name, float(distance), float(limit), UNITS.get(name, JENSEN_SHANNON), seen)
        for (seen, name, distance), limit in zip(found, limits, strict=True)
    ]


def _compared(reference: Profile, new: Profile) -> "list[_Trait | Cloud]":
    """Return what both profiles know of rows.

    Tokens and embeddings count only if one base model saw both in one way.
    """
    same_base = (
        reference.base is not None
        and reference.base == new.base
        and reference.modality == new.modality
    )
    traits = [
        _Trait(name, reference.traits[name], new.traits[name])
        for name in sorted(reference.traits.keys() & new.traits.keys())
        if same_base or not name.startswith("tokens")
    ]
    if not (same_base and reference.embeddings and new.embeddings):
        return [*traits]
    modality = (reference.modality or {}).get("name", "")
    return [*traits, Cloud(profiles.embeddings(reference), profiles.embeddings(new), modality)]


def _limits(draws: Array, level: float) -> Array:
    """Return a limit for each measure (measures) from draws of them (measures, draws).

    With the given probability no draw exceeds any of the limits.
    """
    mean, spread = draws.mean(1), draws.std(1)
    standard = np.divide(
        draws - mean[:, None], spread[:, None], out=np.zeros_like(draws), where=spread[:, None] > 0
    )
    return mean + np.quantile(standard.max(0), level) * spread


class _Trait:
    """A trait in bins: deciles of the reference for numbers, its values and `another` for words."""

    def __init__(self, name: str, reference: list[Any], new: list[Any]) -> None:
        self.name, both = name, (reference, new)
        if isinstance(reference[0], str):
            values = {value: i for i, value in enumerate(dict.fromkeys(sorted(reference)))}
            self.codes = [np.array([values.get(of, len(values)) for of in side]) for side in both]
            self.bins = len(values) + 1
            expected, here = map(_most_frequent, both)
        else:
            deciles, times = np.unique(np.quantile(reference, DECILES), return_counts=True)
            # a value that many rows have gets a bin of its own
            edges = np.union1d(deciles, np.nextafter(deciles[times > 1], -np.inf))
            self.codes = [np.searchsorted(edges, side, side="left") for side in both]
            self.bins = len(edges) + 1
            expected, here = (f"{np.mean(side):.3g}" for side in both)
        self.seen = f"{here} here, {expected} in the reference"

    def _counts(self, codes: Array) -> Array:
        return np.bincount(codes, minlength=self.bins).astype(float)

    def distances(self) -> dict[str, float]:
        """Return the Jensen-Shannon divergence between reference and new rows."""
        reference, new = map(self._counts, self.codes)
        return {self.name: float(_js(new[None], reference[None])[0])}

    def draws(self, among: Array, m: int, n: int, drawn: np.random.Generator) -> Array:
        """Return the distances (1, RESAMPLES) between two draws of the reference.

        n rows are drawn from a group of the reference, m from all of it. Each bin gets an extra
        half row, because what the reference has not shown may exist.
        """
        whole, part = (self._counts(of) + 0.5 for of in (self.codes[0], self.codes[0][among]))
        return _js(
            drawn.multinomial(n, part / part.sum(), RESAMPLES),
            drawn.multinomial(m, whole / whole.sum(), RESAMPLES),
        )[None]


def _most_frequent(values: list[str]) -> str:
    shares = pd.Series(values).value_counts(normalize=True)[:3]
    return ", ".join(f"{one_line(value, 20)} {share:.1%}" for value, share in shares.items())


# ---- activations ---------------------------------------------------------------------------------


def of_activations(reference: dict[str, list[float]], seen: Seen, false_alarms: float) -> Measure:
    """Return how far rows are from the BatchNorm statistics of pretraining.

    The distance is the mean over all layers. reference has the distances of draws of the reference
    by their number of rows; between two numbers the limit follows their logarithm.
    """
    rows, sizes = len(seen.embeddings), sorted(map(int, reference))
    limits = [np.quantile(reference[str(size)], 1 - false_alarms / FAMILIES) for size in sizes]
    limit = float(np.interp(np.log(rows), np.log(sizes), limits))
    layers = activations.divergence(seen, np.full((1, rows), 1 / rows, np.float32))[0]
    text = (
        f"farthest in BatchNorm layer {int(layers.argmax()) + 1} of {len(layers)} "
        f"({layers.max():.3g}), {rows} rows"
    )
    return Measure("activations", float(layers.mean()), limit, KULLBACK_LEIBLER, text)
