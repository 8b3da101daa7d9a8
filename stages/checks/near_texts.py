"""Finds texts that say nearly the same: MinHash proposes pairs, and the 4-grams that they share confirm them.

Two texts are near where the Jaccard index of their sets of 4-grams of characters is at least 0.7. A pair is proposed
where all ROWS minima of one of the BANDS agree (Broder 1997; locality-sensitive hashing as in Leskovec, Rajaraman,
Ullman: Mining of Massive Datasets, 3.4): at an index s with probability 1 - (1 - s**ROWS)**BANDS, which is .990 at .7
and .9998 at .8. Signatures without confirmation would merge 9 to 24 % wrongly.

Texts of fewer than GRAM characters are alike only where they are equal; of long ones the first REACH characters
count. Where more than NEXT texts agree in a band, as templates do, each is compared with the NEXT that follow it in
order of the alphabet.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from stages.checks import groups
from stages.checks.groups import Rows

Hashes = npt.NDArray[np.uint32]

GRAM = 4  # characters
LIMIT = 0.7  # Jaccard index of two texts that are near
BANDS, ROWS = 25, 5
SLACK = 0.2  # below LIMIT, of the share of minima that agree: five standard deviations, so what is confirmed is hardly ever lost
NEXT = 3
REACH = 20_000  # characters of a text that are compared
CHARACTERS = 2**17  # whose minima are taken at once: they stay in the processor's cache
KEPT_SETS = 2**8  # sets of grams, kept for the next pair

DRAWN = np.random.default_rng(0)
FACTORS, SHIFTS = (DRAWN.integers(2**32, size=BANDS * ROWS, dtype=np.uint32) for _ in range(2))
MIXING = np.uint64(0x9E3779B97F4A7C15)  # the golden ratio's 64 bits, as in splitmix64


def pairs(texts: list[str]) -> Rows:
    """Return confirmed pairs of places (pairs, 2), enough to link every group of near texts.

    The texts should be distinct, and sorted: then the groups do not depend on the order in which they came.
    """
    long = np.flatnonzero([len(text) >= GRAM for text in texts])
    said = [texts[i][:REACH] for i in long]
    keys, short = _signatures(said)

    @lru_cache(KEPT_SETS)
    def grams(place: int) -> frozenset[str]:
        text = said[place]
        return frozenset(text[i : i + GRAM] for i in range(len(text) - GRAM + 1))

    def near(a: int, b: int) -> bool:
        left, right = grams(a), grams(b)
        shared = len(left & right)
        return shared >= LIMIT * (len(left) + len(right) - shared)

    def confirm(proposed: Rows) -> Rows:
        agreeing = (short[proposed[:, 0]] == short[proposed[:, 1]]).mean(axis=1) >= LIMIT - SLACK
        return proposed[[i for i in np.flatnonzero(agreeing) if near(*proposed[i].tolist())]]

    return long[groups.confirmed(len(long), _propose(keys), confirm)]


def _propose(keys: npt.NDArray[np.uint64]) -> Iterator[Rows]:
    """Yield a band's candidate pairs (pairs, 2), the smaller place first."""
    for key in keys:
        order = np.argsort(key, kind="stable")
        ordered = key[order]
        same = [np.flatnonzero(ordered[: len(order) - ahead] == ordered[ahead:]) for ahead in range(1, NEXT + 1)]
        yield np.concatenate([np.stack([order[at], order[at + ahead]], axis=1) for ahead, at in enumerate(same, 1)])


def _signatures(texts: list[str]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """Return each band's key of each text (BANDS, texts), and the last 8 bits of all its minima (texts, BANDS * ROWS)."""
    keys, short = np.empty((BANDS, len(texts)), np.uint64), np.empty((len(texts), BANDS * ROWS), np.uint8)

    def work(start: int, end: int) -> None:
        minima = _minima(texts[start:end])
        short[start:end] = minima.T.astype(np.uint8)
        key = np.zeros((BANDS, end - start), np.uint64)
        for row in range(ROWS):
            key = (key ^ minima[row::ROWS]) * MIXING
            key ^= key >> np.uint64(29)
        keys[:, start:end] = key

    before = np.cumsum([len(text) for text in texts])
    starts = np.flatnonzero(np.diff(before // CHARACTERS, prepend=-1))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(work, starts, [*starts[1:], len(texts)]))
    return keys, short


def _minima(texts: list[str]) -> Hashes:
    """Return the least of each of BANDS * ROWS hashes of each text's grams (BANDS * ROWS, texts)."""
    points = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
    lengths = np.array([len(text) for text in texts])
    hashed = points.copy()
    for ahead in range(1, GRAM):  # wraps around at the end: those grams are no text's own
        hashed = hashed * np.uint32(0x01000193) ^ np.roll(points, -ahead)
    hashed ^= hashed >> np.uint32(15)
    hashed *= np.uint32(0x2C1B3C6D)
    hashed ^= hashed >> np.uint32(12)
    own = np.ones(len(points), bool)
    for behind in range(1, GRAM):
        own[np.cumsum(lengths) - behind] = False  # would reach into the next text
    hashed = hashed[own]
    starts = np.concatenate([[0], np.cumsum(lengths - GRAM + 1)[:-1]])
    minima, hashes = np.empty((BANDS * ROWS, len(texts)), np.uint32), np.empty_like(hashed)
    for i, (factor, shift) in enumerate(zip(FACTORS | np.uint32(1), SHIFTS, strict=True)):
        np.multiply(hashed, factor, out=hashes)
        np.bitwise_xor(hashes, shift, out=hashes)
        np.minimum.reduceat(hashes, starts, out=minima[i])
    return minima
