"""Compare two clouds of embeddings: their Gaussians, and how well a classifier tells them apart."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.models.activations import RESAMPLES

Array = NDArray[Any]

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


class Cloud:
    """Embeddings (rows, width) of the reference and of new rows.

    A draw is a weight for each row.
    """

    def __init__(self, reference: Array, new: Array, modality: str) -> None:
        self.reference, self.found = reference, _between(reference, new)
        self.seen = f"{len(new)} rows here, {len(reference)} of the reference"
        if of_benchmark := LOST.get(modality):
            far = self.found["frechet"]
            nearest = sorted(of_benchmark, key=lambda of: abs(of[0] - far))[:NEAREST]
            lost = [loss for _, loss in nearest]
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
            _halves(size, share, drawn)
            for size, share in ((m, np.ones(m)), (n, among.astype(float)))
        ]
        whole, part = (_gaussians(self.reference, of.sum(0)) for of in halves)
        told_apart = two_samples(self.reference, halves[0], self.reference, halves[1])
        return np.stack([frechet(whole, part), told_apart])


def _halves(size: int, share: Array, drawn: np.random.Generator) -> Array:
    """Return the weights (2, RESAMPLES, rows) of two halves of a draw of `size` rows."""
    sizes, shares = (size - size // 2, size // 2), share / share.sum()
    return np.stack([drawn.multinomial(half, shares, RESAMPLES) for half in sizes]).astype(float)


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
