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
from stages.domain.profiles import Profile
from stages.models import activations
from stages.models.activations import RESAMPLES, Seen

Array = NDArray[Any]

LEAST_ROWS = 25  # fewer are not measured
FAMILIES = 3  # labels, rows, activations: each may be wrong at a third of the rate
DECILES = np.linspace(0.1, 0.9, 9)
JENSEN_SHANNON, KULLBACK_LEIBLER = "Jensen-Shannon, nats", "Kullback-Leibler, nats"
NEAREST = 3
# Fréchet distance of shifted sets from the data that a linear model on the base's embeddings had
# learned from, and the macro-F1 that it lost: `python -m benchmarks.checks losses`, banking77 and
# films with MiniLM, cats, dogs and birds with MobileNetV2.
LOST = {
    "text": ((0.137, 0.277), (0.308, 0.650), (0.391, 0.782), (0.400, 0.760),
             (0.308, 0.404), (0.373, 0.703), (0.166, 0.511), (0.106, 0.071), (0.305, 0.222),
             (0.538, 0.297), (0.567, 0.330), (0.417, 0.279), (0.332, 0.270), (0.115, 0.111),
             (0.513, 0.033), (0.858, 0.209)),
    "image": ((0.175, 0.084), (0.062, 0.104), (0.956, 0.333), (0.213, 0.055), (0.732, 0.244),
              (0.661, 0.284), (1.101, 0.406), (0.124, 0.180)),
}  # fmt: skip
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
    here, expected = (
        np.array([rows[name] for name in rows], float),
        np.array([reference[name] for name in rows], float),
    )
    expected /= expected.sum()
    size, drawn = int(here.sum()), np.random.default_rng(seed)
    stated = expected if of is None else drawn.multinomial(of, expected, RESAMPLES) + 0.5
    draws = drawn.multinomial(size, expected, RESAMPLES)
    limit = float(np.quantile(_kl(draws, stated), 1 - false_alarms / FAMILIES))
    text = ", ".join(
        f"{one_line(name, 30)} {n / size:.3f} (reference {q:.3f})"
        for name, n, q in zip(rows, here, expected, strict=True)
    )
    distance = float(_kl(here[None], (expected if of is None else expected * of + 0.5)[None])[0])
    divergence = float(_js(here[None], expected[None])[0])
    return Measure(
        "labels",
        distance,
        limit,
        KULLBACK_LEIBLER,
        one_line(f"Jensen-Shannon {divergence:.3g}; {text}", 400),
    )


def _kl(counts: Array, reference: Array) -> Array:
    """Return the Kullback-Leibler divergences (draws) of counts from a reference, in nats.

    counts are (draws, bins); reference is (bins), or (draws, bins) with one for each draw.
    """
    p, q = (
        of / of.sum(-1, keepdims=True)
        for of in (np.asarray(counts, float), np.asarray(reference, float))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * np.log(p / q), 0).sum(-1)


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
    same_base = (
        reference.base is not None
        and reference.base == new.base
        and reference.modality == new.modality
    )
    names = sorted(
        name
        for name in reference.traits.keys() & new.traits.keys()
        if same_base or not name.startswith("tokens")
    )
    traits = [_Trait(name, reference.traits[name], new.traits[name]) for name in names]
    embedded = same_base and reference.embeddings and new.embeddings
    clouds = (
        [
            _Cloud(
                profiles.embeddings(reference),
                profiles.embeddings(new),
                (reference.modality or {}).get("name", ""),
            )
        ]
        if embedded
        else []
    )
    compared = [*traits, *clouds]
    group, drawn = np.array(reference.group), np.random.default_rng(seed)
    limits = [
        _limits(
            np.concatenate([of.draws(group == one, m, n, drawn) for of in compared]),
            1 - false_alarms / FAMILIES,
        )
        for one in np.unique(group)
    ]
    return [
        Measure(name, float(distance), float(limit), UNITS.get(name, JENSEN_SHANNON), of.seen)
        for (of, name, distance), limit in zip(
            [(of, *pair) for of in compared for pair in of.distances().items()],
            np.max(limits, axis=0),
            strict=True,
        )
    ]


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
        self.name = name
        if isinstance(reference[0], str):
            values = {value: i for i, value in enumerate(dict.fromkeys(sorted(reference)))}
            self.codes = [
                np.array([values.get(value, len(values)) for value in of])
                for of in (reference, new)
            ]
            self.bins = len(values) + 1
            here, expected = (
                ", ".join(
                    f"{one_line(k, 20)} {v:.1%}"
                    for k, v in pd.Series(of).value_counts(normalize=True)[:3].items()
                )
                for of in (new, reference)
            )
        else:
            deciles, times = np.unique(np.quantile(reference, DECILES), return_counts=True)
            # a value that many rows have gets a bin of its own
            edges = np.union1d(deciles, np.nextafter(deciles[times > 1], -np.inf))
            self.codes = [np.searchsorted(edges, of, side="left") for of in (reference, new)]
            self.bins = len(edges) + 1
            here, expected = (f"{np.mean(of):.3g}" for of in (new, reference))
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


class _Cloud:
    """Embeddings (rows, width) of the reference and of new rows.

    A draw is a weight for each row.
    """

    def __init__(self, reference: Array, new: Array, modality: str) -> None:
        self.reference, self.found = reference, _between(reference, new)
        self.seen = f"{len(new)} rows here, {len(reference)} of the reference"
        if of_benchmark := LOST.get(modality):
            lost = [
                loss
                for _, loss in sorted(
                    of_benchmark, key=lambda of: abs(of[0] - self.found["frechet"])
                )[:NEAREST]
            ]
            self.seen += (
                f"; the {NEAREST} sets about as far in the benchmark "
                f"lost {min(lost):.2f} to {max(lost):.2f} of macro-F1"
            )

    def distances(self) -> dict[str, float]:
        """Return both distances of the new rows."""
        return self.found

    def draws(self, among: Array, m: int, n: int, drawn: np.random.Generator) -> Array:
        """Return both distances (2, RESAMPLES) between two draws of the reference.

        n rows are drawn from a group of the reference, m from all of it.
        """
        halves = [
            np.stack(
                [
                    drawn.multinomial(half, share / share.sum(), RESAMPLES)
                    for half in (size - size // 2, size // 2)
                ]
            ).astype(float)
            for size, share in ((m, np.ones(m)), (n, among.astype(float)))
        ]
        whole, part = (_gaussians(self.reference, of.sum(0)) for of in halves)
        return np.stack(
            [
                frechet(whole, part),
                two_samples(self.reference, halves[0], self.reference, halves[1]),
            ]
        )


def _between(reference: Array, new: Array) -> dict[str, float]:
    """Return both distances between two clouds; the classifier learns from every other row."""
    halves = [
        np.stack([np.arange(len(of)) % 2 == side for side in (0, 1)])[:, None].astype(float)
        for of in (reference, new)
    ]
    return {
        "frechet": float(
            frechet(_gaussians(reference, halves[0].sum(0)), _gaussians(new, halves[1].sum(0)))[0]
        ),
        "two_samples": float(two_samples(reference, halves[0], new, halves[1])[0]),
    }


def _gaussians(rows: Array, weights: Array) -> tuple[Array, Array]:
    """Return the mean (draws, width) and covariance (draws, width, width) of rows for each draw.

    weights are (draws, rows).
    """
    weights = weights / weights.sum(1, keepdims=True)
    mean = weights @ rows
    products = weights @ (rows[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)
    return mean, products.reshape(len(weights), rows.shape[1], -1) - mean[:, :, None] * mean[
        :, None, :
    ]


def frechet(reference: tuple[Array, Array], new: tuple[Array, Array]) -> Array:
    """Return, for each draw, the Fréchet distance of Gaussians over the variance of the first.

    Dowson and Landau 1982; Heusel et al. 2017.
    """
    (a, b), (c, d) = reference, new
    values, vectors = np.linalg.eigh(b)
    root = (vectors * np.sqrt(values.clip(0))[:, None]) @ vectors.swapaxes(1, 2)
    shared = np.sqrt(np.linalg.eigvalsh(root @ d @ root).clip(0)).sum(1)
    variance, of_new = (np.trace(of, axis1=1, axis2=2) for of in (b, d))
    return (((a - c) ** 2).sum(1) + variance + of_new - 2 * shared) / variance


def two_samples(reference: Array, of_reference: Array, new: Array, of_new: Array) -> Array:
    """Return the area under the curve of Fisher's discriminant for each draw.

    It is .5 if nothing distinguishes the two sets, and 1 if everything does. This is a classifier
    two-sample test (Lopez-Paz and Oquab 2017). The weights (2, draws, rows) are those of the rows
    that it learns from, and of the rows that it is judged on.
    """
    (a, b), (c, d) = _gaussians(reference, of_reference[0]), _gaussians(new, of_new[0])
    within = (b + d) / 2
    ridge = 1e-3 * np.trace(within, axis1=1, axis2=2) / within.shape[1] + 1e-12
    direction = np.linalg.solve(
        within + ridge[:, None, None] * np.eye(within.shape[1]), (c - a)[..., None]
    )[..., 0]
    return np.array(
        [
            area(new @ at, w, reference @ at, v)
            for at, w, v in zip(direction, of_new[1], of_reference[1], strict=True)
        ]
    )


def area(higher: Array, of_higher: Array, lower: Array, of_lower: Array) -> float:
    """Return the probability that a value of the first set exceeds one of the second.

    Values count by their weights; ties count half (Mann and Whitney 1947).
    """
    order = np.argsort(lower)
    below = np.concatenate([[0.0], np.cumsum(of_lower[order])]) / of_lower.sum()
    less, most = (below[np.searchsorted(lower[order], higher, side)] for side in ("left", "right"))
    return float((less + most) @ of_higher / (2 * of_higher.sum()))


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
