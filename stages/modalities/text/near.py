"""Finds texts that say nearly the same: MinHash proposes pairs, and the 4-grams that they share confirm them.

Two texts are near where the Jaccard index of their sets of 4-grams of characters is at least 0.7. A pair is proposed
where all ROWS minima of one of the BANDS agree (Broder 1997; locality-sensitive hashing as in Leskovec, Rajaraman,
Ullman: Mining of Massive Datasets, 3.4): at an index s with probability 1 - (1 - s**ROWS)**BANDS, which is .990 at .7
and .9998 at .8. Signatures without confirmation would merge 9 to 24 % wrongly.

Texts of fewer than GRAM characters are alike only where they are equal; of long ones the first REACH characters
count. Where more than NEXT texts agree in a band, as templates do, each is compared with the NEXT that follow it in
order of the alphabet.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.contract import groups
from stages.contract.groups import Rows

Hashes = npt.NDArray[np.uint32]

GRAM = 4  # characters
LIMIT = 0.7  # Jaccard index of two texts that are near
BANDS, ROWS = 25, 5
SLACK = 0.2  # below LIMIT, of the share of minima that agree: five standard deviations, so what is confirmed is hardly ever lost
NEXT = 3
REACH = 20_000  # characters of a text that are compared
CHARACTERS = 2**18  # whose minima are taken at once: they stay in the processor's cache
COMPARED = (
    2**16 - 2 * REACH
)  # characters of pairs that are compared at once: with the last pair no more than 16 bits tell apart

FACTORS = np.random.default_rng(0).integers(2**32, size=BANDS * ROWS, dtype=np.uint32) | np.uint32(
    1
)
MIXING = np.uint64(0x9E3779B97F4A7C15)  # the golden ratio's 64 bits, as in splitmix64


def pairs(texts: list[str]) -> Rows:
    """Return confirmed pairs of places (pairs, 2), enough to link every group of near texts.

    The texts should be distinct, and sorted: then the groups do not depend on the order in which they came.
    """
    long = np.flatnonzero([len(text) >= GRAM for text in texts])
    said = [texts[i][:REACH] for i in long]
    keys, short = _signatures(said)

    def confirm(proposed: Rows) -> Rows:
        likely = proposed[
            (short[proposed[:, 0]] == short[proposed[:, 1]]).mean(axis=1) >= LIMIT - SLACK
        ]
        lengths = [len(said[a]) + len(said[b]) for a, b in likely.tolist()]
        index = _side_by_side(
            lambda span: _jaccard([said[place] for place in likely[span].ravel()]),
            lengths,
            COMPARED,
        )
        return likely[np.concatenate([np.empty(0), *index]) >= LIMIT]

    return long[groups.confirmed(len(long), _propose(keys), confirm)]


def _propose(keys: npt.NDArray[np.uint64]) -> Iterator[Rows]:
    """Yield a band's candidate pairs (pairs, 2), the smaller place first: those next to each other, then those farther apart."""
    bits = np.uint64(
        keys.shape[1].bit_length()
    )  # give way to the place: one sort of numbers is faster than a stable argsort
    for key in keys:
        both = np.sort(key >> bits << bits | np.arange(len(key), dtype=np.uint64))
        ordered, order = (
            both >> bits,
            (both & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.intp),
        )
        same = [
            np.flatnonzero(ordered[: len(order) - ahead] == ordered[ahead:])
            for ahead in range(1, NEXT + 1)
        ]
        nearest, *others = [
            np.stack([order[at], order[at + ahead]], axis=1) for ahead, at in enumerate(same, 1)
        ]
        yield nearest
        yield np.concatenate(others)


def _signatures(texts: list[str]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint8]]:
    """Return each band's key of each text (BANDS, texts), and the last 8 bits of all its minima (texts, BANDS * ROWS)."""
    keys, short = (
        np.empty((BANDS, len(texts)), np.uint64),
        np.empty((len(texts), BANDS * ROWS), np.uint8),
    )

    lengths = np.array([len(text) for text in texts])
    order = np.argsort(lengths, kind="stable")  # those of like length are worked on together

    def work(span: slice) -> None:
        places = order[span]
        minima = _minima([texts[i] for i in places])
        short[places] = minima.T.astype(np.uint8)
        key = np.zeros((BANDS, len(places)), np.uint64)
        for row in range(ROWS):
            key = (key ^ minima[row::ROWS]) * MIXING
            key ^= key >> np.uint64(29)
        keys[:, places] = key

    _side_by_side(work, lengths[order], CHARACTERS)
    return keys, short


def _side_by_side(work: Callable[[slice], Any], lengths: npt.ArrayLike, most: int) -> list[Any]:
    """Return what work returns of runs that each hold less than `most` and their longest: everything once, in order."""
    starts = np.flatnonzero(np.diff(np.cumsum(lengths) // most, prepend=-1)).tolist()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(
            pool.map(
                work, itertools.starmap(slice, itertools.pairwise([*starts, np.size(lengths)]))
            )
        )


def _jaccard(texts: list[str]) -> npt.NDArray[np.float64]:
    """Return the Jaccard index of the grams of the first and second text, of the third and fourth, and so on."""
    points, own = _points(texts)
    gram, code = (
        np.zeros(len(points), np.uint64),
        np.unique(points, return_inverse=True)[1].astype(np.uint64),
    )
    for ahead in range(GRAM):
        gram = gram << np.uint64(16) | np.roll(code, -ahead)
    text = np.repeat(np.arange(len(texts)), [len(of) - GRAM + 1 for of in texts])
    named = np.unique(gram[own], return_inverse=True)[1]
    said = np.sort((text >> 1 << 17) | (named << 1) | (text & 1))
    said = said[
        np.diff(said, prepend=-1) != 0
    ]  # each gram of a text once; where both texts have it, side by side
    shared = np.bincount(said[np.diff(said >> 1, prepend=-1) == 0] >> 17, minlength=len(texts) // 2)
    return shared / (np.bincount(said >> 17) - shared)


def _minima(texts: list[str]) -> Hashes:
    """Return the least of each of BANDS * ROWS hashes of each text's grams (BANDS * ROWS, texts)."""
    points, own = _points(texts)
    hashed = points.copy()
    for ahead in range(1, GRAM):  # wraps around at the end: those grams are no text's own
        hashed = hashed * np.uint32(0x01000193) ^ np.roll(points, -ahead)
    hashed ^= hashed >> np.uint32(15)
    hashed *= np.uint32(0x2C1B3C6D)
    hashed ^= hashed >> np.uint32(12)
    grams = np.array([len(text) - GRAM + 1 for text in texts])
    ends = np.flatnonzero(own)[
        np.cumsum(grams) - 1
    ]  # where a text's last gram begins: it fills up what a shorter text lacks
    hashed = hashed[
        np.minimum(ends - grams + 1 + np.arange(grams.max())[:, None], ends)
    ]  # (most grams, texts)
    minima, hashes = np.empty((BANDS * ROWS, len(texts)), np.uint32), np.empty_like(hashed)
    for i, factor in enumerate(FACTORS):  # an odd factor orders all 2**32 hashes anew
        np.multiply(hashed, factor, out=hashes)
        np.minimum.reduce(hashes, axis=0, out=minima[i])
    return minima


def _points(texts: list[str]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
    """Return the characters of texts, end to end, and where a gram begins that does not reach into the next text."""
    points = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
    ends, own = np.cumsum([len(text) for text in texts]), np.ones(len(points), bool)
    for behind in range(1, GRAM):
        own[ends - behind] = False
    return points, own
