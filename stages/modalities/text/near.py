"""Find texts that say nearly the same: MinHash proposes pairs, shared 4-grams confirm them.

Two texts are near if the Jaccard index of their sets of 4-grams of characters is at least 0.7. A
pair is proposed if all ROWS minima of one of the BANDS agree (Broder 1997; locality-sensitive
hashing as in Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, 3.4): at an index s with
probability 1 - (1 - s**ROWS)**BANDS, which is .990 at .7 and .9998 at .8. Signatures without
confirmation would merge 9 to 24 % wrongly.

Texts of fewer than GRAM characters are alike only if they are equal; of long texts the first REACH
characters count. If more than NEXT texts agree in a band, as templates do, each is compared with
the NEXT texts that follow it in alphabetical order.
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
LIMIT = 0.7  # least Jaccard index of two texts that are near
BANDS, ROWS = 25, 5
# Below LIMIT, for the share of minima that agree: five standard deviations, so that hardly any pair
# is lost that would be confirmed.
SLACK = 0.2
NEXT = 3
REACH = 20_000  # characters of a text that are compared
CHARACTERS = 2**18  # hashed at a time: they stay in the processor's cache
# Characters of pairs that are compared at a time: with the last pair, no more than 16 bits can tell
# apart.
COMPARED = 2**16 - 2 * REACH

FACTORS = np.random.default_rng(0).integers(2**32, size=BANDS * ROWS, dtype=np.uint32) | np.uint32(
    1
)
MIXING = np.uint64(0x9E3779B97F4A7C15)  # the golden ratio's 64 bits, as in splitmix64


def pairs(texts: list[str]) -> Rows:
    """Return confirmed pairs of places (pairs, 2), enough to link every group of near texts.

    Pass distinct, sorted texts: then the groups do not depend on the order in which they came.
    """
    long = np.flatnonzero([len(text) >= GRAM for text in texts])
    compared = [texts[i][:REACH] for i in long]
    keys, short = _signatures(compared)

    def confirm(proposed: Rows) -> Rows:
        agree = (short[proposed[:, 0]] == short[proposed[:, 1]]).mean(axis=1) >= LIMIT - SLACK
        likely = proposed[agree]
        lengths = [len(compared[a]) + len(compared[b]) for a, b in likely.tolist()]
        index = _side_by_side(
            lambda span: _jaccard([compared[i] for i in likely[span].ravel()]), lengths, COMPARED
        )
        return likely[np.concatenate([np.empty(0), *index]) >= LIMIT]

    return long[groups.confirmed(len(long), _propose(keys), confirm)]


def _propose(keys: npt.NDArray[np.uint64]) -> Iterator[Rows]:
    """Yield each band's candidate pairs (pairs, 2), the smaller place first.

    Pairs next to each other come first, then those farther apart.
    """
    # The place replaces these bits of a key: one sort of numbers is faster than a stable argsort.
    bits = np.uint64(keys.shape[1].bit_length())
    place = (np.uint64(1) << bits) - np.uint64(1)
    for key in keys:
        both = np.sort(key >> bits << bits | np.arange(len(key), dtype=np.uint64))
        ordered, order = both >> bits, (both & place).astype(np.intp)
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
    """Return each text's key in each band (BANDS, texts), and the last 8 bits of all its minima.

    The minima are (texts, BANDS * ROWS).
    """
    keys = np.empty((BANDS, len(texts)), np.uint64)
    short = np.empty((len(texts), BANDS * ROWS), np.uint8)
    lengths = np.array([len(text) for text in texts])
    order = np.argsort(lengths, kind="stable")  # a run has texts of like length

    def work(span: slice) -> None:
        places = order[span]
        minima = _minima([texts[i] for i in places])
        short[places] = minima.T.astype(np.uint8)
        keys[:, places] = _keys(minima)

    _side_by_side(work, lengths[order], CHARACTERS)
    return keys, short


def _keys(minima: Hashes) -> npt.NDArray[np.uint64]:
    """Return a key for the ROWS minima of each band (BANDS, texts)."""
    key = np.zeros((BANDS, minima.shape[1]), np.uint64)
    for row in range(ROWS):
        key = (key ^ minima[row::ROWS]) * MIXING
        key ^= key >> np.uint64(29)
    return key


def _side_by_side(work: Callable[[slice], Any], lengths: npt.ArrayLike, most: int) -> list[Any]:
    """Return the results of `work` for runs that cover everything once, in order.

    The lengths of a run add up to less than `most` and its longest.
    """
    starts = np.flatnonzero(np.diff(np.cumsum(lengths) // most, prepend=-1)).tolist()
    runs = itertools.starmap(slice, itertools.pairwise([*starts, np.size(lengths)]))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(work, runs))


def _jaccard(texts: list[str]) -> npt.NDArray[np.float64]:
    """Return the Jaccard index of the grams of texts 1 and 2, of texts 3 and 4, and so on."""
    points, own = _points(texts)
    gram = np.zeros(len(points), np.uint64)
    code = np.unique(points, return_inverse=True)[1].astype(np.uint64)
    for ahead in range(GRAM):
        gram = gram << np.uint64(16) | np.roll(code, -ahead)
    text = np.repeat(np.arange(len(texts)), [len(string) - GRAM + 1 for string in texts])
    named = np.unique(gram[own], return_inverse=True)[1]
    compared = np.sort((text >> 1 << 17) | (named << 1) | (text & 1))
    # Each gram of a text stays once; if both texts have it, the two are side by side.
    compared = compared[np.diff(compared, prepend=-1) != 0]
    shared = np.bincount(
        compared[np.diff(compared >> 1, prepend=-1) == 0] >> 17, minlength=len(texts) // 2
    )
    return shared / (np.bincount(compared >> 17) - shared)


def _minima(texts: list[str]) -> Hashes:
    """Return the least value of each hash over each text's grams (BANDS * ROWS, texts)."""
    points, own = _points(texts)
    hashed = points.copy()
    for ahead in range(1, GRAM):  # roll wraps around: the last grams are no text's own
        hashed = hashed * np.uint32(0x01000193) ^ np.roll(points, -ahead)
    hashed ^= hashed >> np.uint32(15)
    hashed *= np.uint32(0x2C1B3C6D)
    hashed ^= hashed >> np.uint32(12)
    grams = np.array([len(text) - GRAM + 1 for text in texts])
    # A text's last gram begins at its end: it fills up what a shorter text lacks.
    ends = np.flatnonzero(own)[np.cumsum(grams) - 1]
    # (most grams, texts)
    hashed = hashed[np.minimum(ends - grams + 1 + np.arange(grams.max())[:, None], ends)]
    minima, hashes = np.empty((BANDS * ROWS, len(texts)), np.uint32), np.empty_like(hashed)
    for i, factor in enumerate(FACTORS):  # an odd factor orders all 2**32 hashes anew
        np.multiply(hashed, factor, out=hashes)
        np.minimum.reduce(hashes, axis=0, out=minima[i])
    return minima


def _points(texts: list[str]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
    """Return the characters of texts, end to end, and whether a gram begins at each.

    No gram begins at a character from which it would reach into the next text.
    """
    points = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
    ends, own = np.cumsum([len(text) for text in texts]), np.ones(len(points), bool)
    for behind in range(1, GRAM):
        own[ends - behind] = False
    return points, own
