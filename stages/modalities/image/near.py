"""Find pictures that show the same: re-encoded and resized copies come into one group.

A coarse picture of 8 x 8 cells proposes pairs; 32 x 32 cells, colour and shape confirm them. Only
confirmed pairs make groups. A mirrored, turned, cropped, squashed or recoloured copy is another
picture here, because its label may differ.

The limits are `constant + share * contrast` (the standard deviation of the cells, in grey levels of
0 to 255): compression costs a constant, resizing a share. They were set on 2,624 solar cells of
300 x 300 pixels that all look alike and 396 photographs of ants and bees, each against 30 copies.
In 8 x 8 cells, 99 % of the copies of a kind stay within 0.55 (solar cells, contrast 15) or 1.4
(photographs, contrast 38); the nearest solar cells that differ are 0.74 apart, 8 % above their
limit, the nearest photographs 11 times theirs. `python -m benchmarks.images near` reports what is
found: no two originals, and of each kind of copy (JPEG 30 to 95, WEBP, half to twice the size)
99.7 % or more, except of copies resized by NEAREST.

Leaving out every second pixel shifts a picture by half a pixel. So if a pair is not near as it is,
but not far either, one picture is laid upon the other by the shift of least squares, and what is
left of the differences of the coarse cells counts: 99 % of the solar cells halved by NEAREST keep
less than 0.021 of the contrast, different ones at least 0.025. Photographs keep more: 97 % of those
halved by NEAREST are found.

Some copies of tiny pictures are missed (CIFAR-10, 32 pixels: 99 % of re-encoded or enlarged copies
are found, 59 to 89 % of halved ones). Many poor copies of two solar cells that look nearly the same
may meet halfway.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from stages.contract import groups
from stages.contract.groups import Rows

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

FINE, COARSE = 32, 8  # cells a side
LUMA, CHROMA = slice(0, FINE**2), slice(FINE**2, FINE**2 + 2 * COARSE**2)
SHAPE, SIDE = CHROMA.stop, CHROMA.stop + 1
SIZE = SIDE + 1  # bytes of a fingerprint

COARSE_LIMIT = (0.33, 0.04)  # root mean square of the differences <= constant + share * contrast
FINE_LIMIT = (0.5, 0.12)
# Limits of pairs that may be near once they are laid upon one another.
COARSE_REACH, FINE_REACH = (0.33, 0.12), (0.5, 0.2)
# For what is then left in the coarse cells, as a share of the contrast in the fine ones.
SHIFTED_LIMIT = 0.0235
ALIGNED = 256  # pairs laid upon one another at a time
CHROMA_LIMIT = 3.0
# Doubling width : height takes 24 steps, a copy's rounding at most 2 (6 %).
SHAPE_STEPS, SHAPE_LIMIT = 24, 2
# If the shorter side is below 128 pixels, cells average less: limits grow as 128 / side, up to 3
# times.
SMALL, GROWTH = 128, 3

# Each tree proposes at most 6 pairs a picture, all from its leaf of at most 32.
TREES, LEAF, NEAREST = 8, 32, 6
DIRECTIONS = 8
ROUNDING = 0.05  # what 32 bits may cost a proposal; what confirms is exact
HALVED_UP = 0.125  # grey levels: OpenCV rounds a mean of four pixels half up
YCRCB = np.array(
    [[0.299, 0.587, 0.114, 0], [0.5, -0.419, -0.081, 128], [-0.169, -0.331, 0.5, 128]], np.float32
)  # of red, green, blue, 1 (BT.601)
BLOCKS = np.kron(
    np.eye(COARSE, dtype=np.float32), np.full((FINE // COARSE, 1), COARSE / FINE, np.float32)
)
AVERAGE = np.kron(BLOCKS, BLOCKS)  # fine cells to coarse ones


def fingerprint(rgb: Bytes) -> Bytes:
    """Return SIZE bytes that describe a picture (height, width, 3).

    They are the brightness and colour of its cells, its shape and its shorter side.
    """
    return fingerprint_of(cells(rgb), *rgb.shape[:2])


def cells(rgb: Bytes) -> Floats:
    """Return the means (FINE, FINE, 3) of a picture's cells.

    Means of 2 x 2 pixels are taken first, then means of those, and so on, while a side keeps two
    values a cell or more: OpenCV is fast at that, and its means over areas of any size take ten
    times as long. If a side is odd, its last pixels stay as they are and count half.
    """
    height, width = rgb.shape[:2]
    halvings = max(0, int(np.log2(min(height, width) / (2 * FINE))))
    for _ in range(halvings):
        rgb = _halved(rgb)
    small, tall, wide = rgb.astype(np.float32), height / 2**halvings, width / 2**halvings
    if min(tall, wide) < FINE:  # INTER_AREA averages only if it makes both sides smaller
        tall, wide = max(tall, FINE), max(wide, FINE)
        small = cv2.resize(small, (int(wide), int(tall)), interpolation=cv2.INTER_LINEAR)
    means = cv2.resize(small, None, fx=FINE / wide, fy=FINE / tall, interpolation=cv2.INTER_AREA)
    return cast(Floats, means - HALVED_UP * np.float32(halvings))


def _halved(rgb: Bytes) -> Bytes:
    (tall, odd_height), (wide, odd_width) = divmod(rgb.shape[0], 2), divmod(rgb.shape[1], 2)
    if odd_height or odd_width:
        rgb = cast(
            Bytes, cv2.copyMakeBorder(rgb, 0, odd_height, 0, odd_width, cv2.BORDER_REPLICATE)
        )
    size = (wide + odd_width, tall + odd_height)
    return cast(Bytes, cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))


def fingerprint_of(cells: Floats, height: int, width: int) -> Bytes:
    """Return the fingerprint of a picture of this size from its cells."""
    described = cv2.transform(cells, YCRCB)
    colour = cv2.resize(described[:, :, 1:], (COARSE, COARSE), interpolation=cv2.INTER_AREA)
    shape = min(max(128 + SHAPE_STEPS * np.log2(width / height), 0), 255)
    sizes = [shape, min(height, width, 255)]
    of_all = np.concatenate([described[:, :, 0].ravel(), colour.ravel(), sizes])
    return np.rint(of_all).astype(np.uint8)


def pairs(fingerprints: Bytes) -> Rows:
    """Return confirmed pairs of rows (pairs, 2), enough to link every group.

    No pair lies within what is linked already. The groups depend on the pictures, not on the order
    of rows. Memory and time stay bounded however alike the pictures are: equal fingerprints count
    once, and a tree proposes at most NEAREST others for each of the rest.
    """
    first, member = _distinct(fingerprints)
    seen = _see(fingerprints, first)
    joined = groups.confirmed(len(first), _propose(seen), partial(_confirmed, fingerprints, seen))
    equal = np.stack([first[member], np.arange(len(member))], axis=1)
    return np.concatenate([equal[equal[:, 0] != equal[:, 1]], first[joined]])


@dataclass(frozen=True)
class _Seen:
    """The coarse cells of the distinct fingerprints, and how far apart is near.

    `row` has the row of each distinct fingerprint, `small` the factor of all its limits; contrast
    is the standard deviation of the cells. The larger limit of a pair applies.
    """

    row: Rows
    coarse: Floats
    small: Floats
    coarse_contrast: Floats
    fine_contrast: Floats

    def limit(self, at: Rows, contrast: Floats, of: tuple[float, float]) -> Floats:
        """Return each row's limit (constant, share), or the larger one of each pair (2, pairs)."""
        limits = self.small[at] * (of[0] + of[1] * contrast[at])
        return cast(Floats, limits.max(axis=0) if limits.ndim == 2 else limits)


def _distinct(fingerprints: Bytes) -> tuple[Rows, Rows]:
    """Return a row of each distinct fingerprint, and each row's place among them.

    Only the fingerprints decide the order.
    """
    digests = np.array(
        [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in fingerprints],
        dtype="S16",
    )
    _, first, member = np.unique(digests, return_index=True, return_inverse=True)
    return first, member


def _see(fingerprints: Bytes, first: Rows) -> _Seen:
    coarse = np.empty((len(first), COARSE**2), np.float32)
    contrast = np.empty(len(first), np.float32)
    for some in groups.chunks(np.arange(len(first))):
        fine = fingerprints[first[some], LUMA].astype(np.float32)
        coarse[some] = fine @ AVERAGE
        contrast[some] = fine.std(axis=1)
    small = np.clip(SMALL / np.maximum(fingerprints[first, SIDE], 1), 1, GROWTH).astype(np.float32)
    return _Seen(first, coarse, small, coarse.std(axis=1), contrast)


def _propose(seen: _Seen) -> Iterator[Rows]:
    """Yield each tree's candidate pairs: the nearest within a leaf, if the coarse cells allow it.

    A tree halves the pictures at the median, again and again, each part along the direction in
    which it is widest, out of DIRECTIONS differences of two pictures (as Annoy's random projection
    trees do). A copy that falls on the other side in one tree falls on its own side in another.
    """
    rows = len(seen.coarse)
    levels = int(np.ceil(np.log2(max(rows / LEAF, 1))))
    for tree in range(TREES if rows > 1 else 0):
        drawn = np.random.default_rng(tree).integers(rows, size=(2, DIRECTIONS))
        along = seen.coarse[drawn[0]] - seen.coarse[drawn[1]]
        along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
        order = _ordered(seen.coarse @ along.T, levels)
        yield _nearest(seen, order, _parts(rows, levels)[0])


def _ordered(places: Floats, levels: int) -> Rows:
    """Return the rows leaf by leaf, by their places (rows, DIRECTIONS) along the directions."""
    rows = len(places)
    places -= places.mean(axis=0)
    # Scaled to within a half: added to a part's number, a place sorts within the part.
    places /= 2.001 * max(np.abs(places).max(), 1e-6)
    order = np.arange(rows)
    for level in range(levels):
        starts, part = _parts(rows, level)
        size = np.bincount(part)[:, None]
        spread = (
            np.add.reduceat(places**2, starts) / size
            - (np.add.reduceat(places, starts) / size) ** 2
        )
        widest = places[np.arange(rows), spread.argmax(axis=1)[part]]
        sorts = np.argsort(part + widest, kind="stable")
        order, places = order[sorts], places[sorts]
    return order


def _parts(rows: int, level: int) -> tuple[Rows, Rows]:
    """Return where each part of a level starts, and the part of each place.

    The halves of a part are parts of the next level.
    """
    starts = np.arange(2**level) * rows // 2**level
    return starts, np.repeat(np.arange(2**level), np.diff(starts, append=rows))


def _nearest(seen: _Seen, order: Rows, starts: Rows) -> Rows:
    """Return each row's NEAREST others of its leaf that the coarse limit allows.

    They are pairs (pairs, 2), the smaller row first.
    """
    size = int(np.diff(starts, append=len(order)).max())
    # A short leaf borrows from the next.
    leaves = order[np.minimum(starts[:, None] + np.arange(size), len(order) - 1)]
    apart = _apart_in(seen, leaves)
    other = np.argpartition(apart, min(NEAREST, size) - 1, axis=2)[:, :, :NEAREST]
    leaf, place, n = np.nonzero(np.isfinite(np.take_along_axis(apart, other, axis=2)))
    a, b = leaves[leaf, place], leaves[leaf, other[leaf, place, n]]
    both = np.unique(np.minimum(a, b) * len(order) + np.maximum(a, b))
    return np.stack(np.divmod(both, len(order)), axis=1)


def _apart_in(seen: _Seen, leaves: Rows) -> Floats:
    """Return how far apart any two rows of a leaf are, squared (leaves, size, size).

    Rows are infinitely far from themselves, and from those that the coarse limit does not allow.
    """
    limits = seen.limit(np.arange(len(seen.coarse)), seen.coarse_contrast, COARSE_REACH)
    cells, limit = seen.coarse[leaves], limits[leaves]
    cells -= cells.mean(axis=1, keepdims=True)  # keeps the products small, and 32 bits exact enough
    square = np.square(cells).sum(axis=2)
    apart = (
        square[:, :, None] + square[:, None, :] - 2 * cells @ cells.transpose(0, 2, 1)
    ) / COARSE**2
    apart[apart > (np.maximum(limit[:, :, None], limit[:, None, :]) + ROUNDING) ** 2] = np.inf
    apart[leaves[:, :, None] == leaves[:, None, :]] = np.inf
    return apart


def _confirmed(fingerprints: Bytes, seen: _Seen, candidates: Rows) -> Rows:
    """Return the candidates that every comparison calls near.

    They are compared as they are or laid upon one another.
    """
    coarse = _apart(seen.coarse[candidates[:, 0]], seen.coarse[candidates[:, 1]])
    reached = coarse <= seen.limit(candidates.T, seen.coarse_contrast, COARSE_REACH)
    both, coarse = candidates[reached].T, coarse[reached]
    small = seen.small[both].max(axis=0)
    a, b = (fingerprints[seen.row[side]].astype(np.float32) for side in both)
    fine = _apart(a[:, LUMA], b[:, LUMA])
    like = (_apart(a[:, CHROMA], b[:, CHROMA]) <= CHROMA_LIMIT * small) & (
        np.abs(a[:, SHAPE] - b[:, SHAPE]) <= SHAPE_LIMIT * small
    )
    near = (
        (coarse <= seen.limit(both, seen.coarse_contrast, COARSE_LIMIT))
        & (fine <= seen.limit(both, seen.fine_contrast, FINE_LIMIT))
        & like
    )
    shifted = np.flatnonzero(
        ~near & like & (fine <= seen.limit(both, seen.fine_contrast, FINE_REACH))
    )
    for some in np.split(shifted, range(ALIGNED, len(shifted), ALIGNED)):
        limit = SHIFTED_LIMIT * small[some] * seen.fine_contrast[both[:, some]].min(axis=0)
        near[some] = _left_over(a[some, LUMA], b[some, LUMA]) <= limit
    return both.T[near]


def _left_over(left: Floats, right: Floats) -> Floats:
    """Return the root mean square of the coarse cells' differences that no small shift explains.

    The shift is a part of a cell, by least squares (Lucas & Kanade 1981): leaving out pixels shifts
    a picture by half a pixel.
    """
    grid, apart = ((left + right) / 2).reshape(len(left), FINE, FINE), left - right
    slopes = np.stack([*np.gradient(grid, axis=(1, 2))], axis=1).reshape(len(grid), 2, FINE**2)
    normal = slopes @ slopes.transpose(0, 2, 1) + 1e-3 * np.eye(2, dtype=np.float32)
    shift = np.linalg.solve(normal, slopes @ apart[:, :, None])
    left_over = (apart - (slopes * shift).sum(axis=1)) @ AVERAGE
    return np.sqrt(np.square(left_over).mean(axis=1))


def _apart(left: Floats, right: Floats) -> Floats:
    """Return the root mean square of the differences, row by row."""
    difference = left - right
    return np.sqrt(np.einsum("ij,ij->i", difference, difference) / difference.shape[1])
