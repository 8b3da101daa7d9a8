"""Copies join one group, and other pictures never do, even if a set's pictures are alike."""

import io
import time
import tracemalloc

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order
from sklearn.datasets import load_sample_images

from stages.contract import groups
from stages.modalities.image import near

Picture = npt.NDArray[np.uint8]


def crops() -> list[Picture]:
    """Return 2 x 12 pieces of photographs, with sides of about 200 pixels."""
    rng = np.random.default_rng(0)
    found = []
    for photograph in load_sample_images().images:
        for number in range(12):
            height, width = rng.integers(180, 220), rng.integers(180, 220)
            top, left = (number // 6) * 200, (number % 6) * 84
            found.append(np.ascontiguousarray(photograph[top : top + height, left : left + width]))
    return found


def cell(number: int, side: int = 300) -> Picture:
    """Return a solar cell: bright, with a shade of its own and sometimes a crack.

    It has the same wires as every other.
    """
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:side, 0:side] / side
    grey = 150 + 50 * np.sin(np.pi * x) * np.sin(np.pi * y)
    grey[np.abs(y * 3 % 1 - 0.5) < 0.02] -= 70
    grey += cv2.resize(rng.normal(0, 4, (5, 5)), (side, side), interpolation=cv2.INTER_CUBIC)
    grey += rng.normal(0, 2, grey.shape)
    picture = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    if number % 2:
        ends = rng.integers(20, side - 20, (2, 2)).tolist()
        cv2.line(picture, ends[0], ends[1], (90, 90, 90), 2)
    return picture


def flat(level: int, height: int = 100, width: int = 100) -> Picture:
    return np.full((height, width, 3), level, np.uint8)


def encode(picture: Picture, kind: str, quality: int = 75) -> Picture:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def resize(picture: Picture, share: float, by: int, more: int = 0) -> Picture:
    height, width = picture.shape[:2]
    return np.asarray(
        Image.fromarray(picture).resize(
            (round(width * share) + more, round(height * share) - more), Image.Resampling(by)
        )
    )


COPIES = {
    **{
        f"JPEG {quality}": lambda picture, quality=quality: encode(picture, "JPEG", quality)
        for quality in (30, 60, 95)
    },
    "WEBP": lambda picture: encode(picture, "WEBP"),
    "PNG": lambda picture: encode(picture, "PNG"),
    **{
        f"x {share}": lambda picture, share=share: resize(picture, share, Image.Resampling.BICUBIC)
        for share in (0.5, 0.75, 1.5, 2)
    },
    "BOX": lambda picture: resize(picture, 0.75, Image.Resampling.BOX),
    "rounding": lambda picture: resize(picture, 0.75, Image.Resampling.BILINEAR, more=1),
    "OpenCV": lambda picture: cv2.resize(
        picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_LINEAR
    ),
    "x 0.5, JPEG 40": lambda picture: encode(
        resize(picture, 0.5, Image.Resampling.BICUBIC), "JPEG", 40
    ),
}
PICTURES = {"photographs": crops(), "solar cells": [cell(number) for number in range(60)]}


def grouped(pictures: list[Picture]) -> npt.NDArray[np.intp]:
    shown = np.array([near.fingerprint(picture) for picture in pictures])
    return groups.linked(len(shown), near.pairs(shown))


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("name", PICTURES)
def test_a_copy_comes_into_its_original_s_group_and_nothing_else_does(name: str, kind: str) -> None:
    pictures = PICTURES[name]
    group = grouped([*pictures, *(COPIES[kind](picture) for picture in pictures)])
    assert group.tolist() == [*range(len(pictures))] * 2


def test_a_copy_that_is_a_pixel_off_is_laid_upon_its_original() -> None:
    """Half of the copies that leave out pixels are so; without alignment 58 % of them are found."""
    originals, copies = (
        [np.ascontiguousarray(picture[some, some]) for picture in crops()]
        for some in (slice(None, -1), slice(1, None))
    )
    group = grouped([*originals, *copies])
    assert len(set(group[: len(originals)])) == len(originals)
    assert (group[: len(originals)] == group[len(originals) :]).mean() >= 0.8


def test_a_small_picture_s_copies_are_found_too() -> None:
    pictures = [
        resize(picture, 32 / picture.shape[1], Image.Resampling.BICUBIC) for picture in crops()
    ]
    for kind in ("JPEG 60", "x 1.5", "x 2"):
        assert (
            grouped([*pictures, *(COPIES[kind](picture) for picture in pictures)]).tolist()
            == [*range(len(pictures))] * 2
        )


def test_a_mirrored_turned_cut_recoloured_or_squashed_picture_is_another() -> None:
    for picture in crops():
        height = len(picture)
        others = [
            picture[:, ::-1],
            picture[::-1],
            np.rot90(picture),
            picture[: height * 9 // 10],
            picture[:, :, ::-1],
            cv2.resize(picture, (height * 4 // 3, height)),
        ]
        assert len(set(grouped([picture, *map(np.ascontiguousarray, others)]).tolist())) == 1 + len(
            others
        )


def test_fine_print_tells_pages_apart() -> None:
    """In 8 x 8 cells all pages are the same grey; only the finer comparison tells lines apart."""
    pages = []
    for number in range(20):
        ink = np.random.default_rng(number).integers(0, 2, (16, 16))
        ink = np.stack([ink, 1 - ink], axis=2).reshape(16, 32)  # as much in each of 8 x 8 cells
        pages.append(
            np.repeat(
                np.kron(ink * 40 + 200, np.ones((20, 10))).astype(np.uint8)[:, :, None], 3, axis=2
            )
        )
    shown = np.array([near.fingerprint(page) for page in pages])
    seen = near._see(shown, np.arange(20))
    assert (
        near._apart(seen.coarse[:1], seen.coarse[1:2])[0]
        < seen.limit(np.arange(1), seen.coarse_contrast, near.COARSE_LIMIT)[0]
    )
    assert len(np.unique(groups.linked(20, near.pairs(shown)))) == 20


def test_colour_alone_tells_pictures_apart() -> None:
    shape = np.zeros((64, 64, 3), np.uint8)
    red, green = shape.copy(), shape.copy()
    cv2.circle(red, (32, 32), 20, (200, 0, 0), -1)
    cv2.circle(green, (32, 32), 20, (0, 102, 0), -1)  # as bright
    assert (
        np.abs(
            near.fingerprint(red)[near.LUMA].astype(int) - near.fingerprint(green)[near.LUMA]
        ).max()
        <= 1
    )
    assert grouped([red, green]).tolist() == [0, 1]


def test_flat_pictures_are_near_only_where_level_and_shape_are_the_same() -> None:
    pictures = [
        flat(0),
        flat(255),
        flat(100),
        flat(101),
        flat(100, 200, 200),
        flat(100, 100, 200),
        encode(flat(100), "PNG"),
        flat(0, 50, 50),
    ]
    assert grouped(pictures).tolist() == [0, 1, 2, 3, 2, 5, 2, 0]


def test_dark_pictures_are_told_apart_by_what_little_they_show() -> None:
    dark = [(picture // 20).astype(np.uint8) for picture in crops()]
    assert len(set(grouped(dark).tolist())) == len(dark)
    assert grouped([dark[0], encode(dark[0], "PNG"), dark[1]]).tolist() == [0, 0, 2]


def test_extreme_shapes_have_a_fingerprint() -> None:
    for shape in ((1, 1), (1, 5000), (5000, 1), (31, 33), (7, 300)):
        shown = near.fingerprint(np.full((*shape, 3), 7, np.uint8))
        assert (shown.shape, shown.dtype) == ((near.SIZE,), np.uint8)
        assert (shown[near.LUMA] == 7).all()


def test_a_thin_picture_is_averaged_along_its_long_side() -> None:
    stripes = np.zeros((20, 1000, 3), np.uint8)
    stripes[:, ::2] = 200
    assert near.fingerprint(stripes)[near.LUMA].std() < 5


def test_no_picture_and_one_picture_are_no_pairs() -> None:
    for rows in (0, 1):
        found = near.pairs(np.zeros((rows, near.SIZE), np.uint8))
        assert found.shape == (0, 2)
        assert groups.linked(rows, found).tolist() == [*range(rows)]


@settings(deadline=None)
@given(
    st.integers(1, 12).flatmap(
        lambda rows: st.tuples(
            st.just(rows), st.lists(st.tuples(st.integers(0, rows - 1), st.integers(0, rows - 1)))
        )
    )
)
def test_a_group_is_what_confirmed_pairs_reach(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    rows, found = drawn
    joined = np.array(found, np.intp).reshape(-1, 2)
    group = groups.linked(rows, joined)
    graph = csr_array((np.ones(len(joined)), joined.T), shape=(rows, rows))
    for row in range(rows):
        reached = breadth_first_order(graph, row, directed=False, return_predecessors=False)
        assert sorted(reached.tolist()) == np.flatnonzero(group == group[row]).tolist()
        assert group[row] == min(reached)


def slow_groups(shown: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Return the groups of all confirmed pairs, after comparing each pair."""
    seen = near._see(shown, np.arange(len(shown)))
    every = np.stack(np.triu_indices(len(shown), 1), axis=1)
    return groups.linked(len(shown), near._confirmed(shown, seen, every))


def drifting(rows: int) -> npt.NDArray[np.uint8]:
    """Return fingerprints of which neighbours are near and ends are not.

    They lie in clusters and apart, and some are equal.
    """
    rng = np.random.default_rng(1)
    starts = np.array([near.fingerprint(picture) for picture in crops()])[
        rng.integers(24, size=rows)
    ].astype(float)
    starts[:, near.LUMA] += rng.integers(-6, 7, (rows, 1)) * 0.7
    starts[:, near.LUMA] += rng.normal(0, 0.3, (rows, 1024))
    return np.clip(np.round(starts), 0, 255).astype(np.uint8)


def test_groups_are_those_of_all_pairs_and_the_order_of_rows_does_not_matter() -> None:
    shown = drifting(600)
    group = groups.linked(len(shown), near.pairs(shown))
    assert 24 < len(np.unique(group)) < 300
    assert group.tolist() == slow_groups(shown).tolist()
    order = np.random.default_rng(2).permutation(len(shown))
    again = groups.linked(len(shown), near.pairs(shown[order]))
    assert (
        len(set(zip(group[order].tolist(), again.tolist(), strict=True)))
        == len(np.unique(group))
        == len(np.unique(again))
    )


def test_every_pair_is_confirmed() -> None:
    shown = drifting(600)
    found = near.pairs(shown)
    assert len(near._confirmed(shown, near._see(shown, np.arange(600)), found)) == len(found) > 100


def test_thousands_of_pictures_that_look_alike_stay_cheap() -> None:
    """5,000 nearly blank pictures have 12 million pairs; a tree proposes at most 6 per picture."""
    shown = np.random.default_rng(0).normal(240, 0.3, (5000, near.SIZE)).round().astype(np.uint8)
    shown[:, near.SHAPE], shown[:, near.SIDE] = 128, 255
    shown[4000:] = shown[:1000]
    tracemalloc.start()
    began = time.process_time()
    found = near.pairs(shown)
    spent, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert spent < 10
    assert peak < 100 * 2**20
    assert len(np.unique(groups.linked(5000, found))) == 1
    assert all(
        len(proposed) <= 24_000 for proposed in near._propose(near._see(shown, np.arange(4000)))
    )


def test_a_copy_is_found_among_thousands_of_others() -> None:
    rng = np.random.default_rng(3)
    photographs = load_sample_images().images
    pictures = []
    for number in range(2000):
        side = rng.integers(100, 250)
        top, left = rng.integers(427 - side), rng.integers(640 - side)
        pictures.append(
            np.ascontiguousarray(photographs[number % 2][top : top + side, left : left + side])
        )
    shown = np.array([near.fingerprint(picture) for picture in pictures])
    copied = np.array([near.fingerprint(encode(picture, "JPEG", 50)) for picture in pictures[:500]])
    group = groups.linked(2500, near.pairs(np.concatenate([shown, copied])))
    assert (group[2000:] == group[:500]).mean() >= 0.998


@pytest.mark.parametrize(
    ("height", "width"), [(300, 300), (225, 225), (450, 450), (65, 259), (129, 500), (20, 31)]
)
def test_the_last_pixels_count_in_the_last_cells_whatever_is_halved_on_the_way(
    height: int, width: int
) -> None:
    rgb = np.full((height, width, 3), 100, np.uint8)
    rgb[-1], rgb[:, -1] = 200, 200
    large = cv2.resize(rgb.astype(np.float32), (max(width, near.FINE), max(height, near.FINE)))
    means = cv2.resize(large, (near.FINE, near.FINE), interpolation=cv2.INTER_AREA)
    assert np.abs(near.cells(rgb) - means).max() < 0.75
