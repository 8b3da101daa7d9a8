"""Alter pictures with albumentations; each draw depends only on what is altered."""

import inspect
import random
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.contract import draws, progress
from stages.contract.escape import one_line
from stages.modalities.image import pictures, reading
from stages.modalities.image.files import PACK, PictureError, pack
from stages.modalities.image.pictures import Limits, Rgb
from stages.params.augment import Augment, Transform
from stages.params.image import Albumentations, ImageModality

COPIES = f"copies{PACK}"
# Arguments of transforms that read files, run code or need more than a picture.
FOREIGN = {"read_fn", "reference_images", "metadata_key", "font_path", "image"}
# Every transform is tried on this picture.
PROBE = np.random.default_rng(0).integers(0, 256, (320, 352, 3), dtype=np.uint8)


def faults(transforms: tuple[Transform, ...]) -> list[str]:
    """Return what is wrong with the transforms by albumentations' own signatures."""
    wrong = list[str]()
    for i, transform in enumerate(transforms):
        try:
            _tried(transform)
        except (ValueError, TypeError) as error:
            wrong.append(f"transforms.{i}: {one_line(error, 300)}")
    return wrong


def _named(transform: Transform) -> partial[Any]:
    """Return the constructor of a transform of albumentations, with its arguments.

    Raises ValueError if albumentations does not have the transform or an argument, or if the
    transform needs more than a picture.
    """
    if not isinstance(transform, Albumentations):
        raise AssertionError("params/task.py lets no text's transform in")
    made = _found(transform.transform)
    takes = inspect.signature(made.__init__).parameters
    if FOREIGN & set(takes) or inspect.isabstract(made):
        raise ValueError(f"{transform.transform} needs more than the picture itself")
    if unknown := set(transform.arguments) - set(takes):
        raise ValueError(
            f"{transform.transform} has no argument {', '.join(sorted(unknown))}; it takes "
            f"{', '.join(list(takes)[1:])}"
        )
    tuples = {k: tuple(v) for k, v in transform.arguments.items() if isinstance(v, list)}
    return partial(made, **{**transform.arguments, **tuples})


def _found(name: str) -> type[Any]:
    import albumentations

    made = getattr(albumentations, name, None)
    if not (
        inspect.isclass(made)
        and issubclass(made, (albumentations.ImageOnlyTransform, albumentations.DualTransform))
    ):
        raise ValueError(f"albumentations {albumentations.__version__} has no transform {name}")
    return made


def _tried(transform: Transform) -> None:
    """Raise ValueError or TypeError if a transform is unfit.

    It is unfit if albumentations warns of it, or if it makes no picture of a picture.
    """
    made = _named(transform)
    name = made.func.__name__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            altering = made()
        except UserWarning as warning:
            raise ValueError(f"{name}: {warning}") from None
    _require_a_picture(altering, name)


def _require_a_picture(altering: Any, name: str) -> None:
    import albumentations

    try:
        result = albumentations.Compose([altering], seed=0)(image=PROBE)["image"]
    except Exception as error:  # transforms raise any type, here on a picture of usual size
        raise ValueError(
            f"{name}: on a picture of {PROBE.shape[1]} x {PROBE.shape[0]} pixels: "
            f"{one_line(error, 200)}"
        ) from None
    if result.dtype != np.uint8 or result.ndim != 3 or result.shape[2] != 3:
        raise ValueError(
            f"{name} makes no picture of 8 bits ({result.dtype}, {result.shape}); a model's "
            "numbers are made by its own processor"
        )


class Policy(threading.local):
    """The transforms, made anew in each thread and process because drawing changes their state."""

    def __init__(self, augment: Augment) -> None:
        import albumentations

        self.augment = augment
        # Not tried here: warning filters belong to the whole process, and threads that set them
        # side by side leave them set.
        self.compose = albumentations.Compose(
            [_named(transform)() for transform in augment.transforms]
        )

    def __reduce__(self) -> tuple[type, tuple[Augment]]:
        return Policy, (self.augment,)

    def __call__(self, rgb: Rgb, draw: int) -> Rgb:
        """Return an RGB array altered by all transforms in turn; only the draw decides."""
        # Not set_random_seed: it gives every transform a generator of the same seed, so that all
        # share their first draw.
        self.compose.set_random_state(np.random.default_rng(draw), random.Random(draw))
        return self.compose(image=rgb)["image"]


def alter(
    samples: pd.DataFrame, augment: Augment, settings: ImageModality, files: Path, below: str
) -> pd.DataFrame:
    """Write altered copies of samples as PNG into one archive, and return their rows.

    Each draw depends only on (seed, id, number). A copy is left out if it equals its original, or
    if no original may have its size.
    """
    drawn = [draws.uniform("chosen", augment.seed, i) < augment.share for i in samples["id"]]
    chosen = samples[drawn]
    if not augment.transforms or chosen.empty or not augment.copies:
        return samples.iloc[:0]
    numbered = [
        chosen.assign(id=chosen["id"] + f"+{number}", source_id=chosen["id"])
        for number in range(1, augment.copies + 1)
    ]
    copies = pd.concat(numbered, ignore_index=True)
    digests = _write(copies, augment, reading.limits(settings), files / COPIES)
    copies["x"] = f"{below}/{COPIES}/" + copies["id"] + ".png"
    copies["content"] = copies["id"].map(digests)
    return pd.concat([samples.iloc[:0], copies[copies["content"].notna()]], ignore_index=True)


def _write(copies: pd.DataFrame, augment: Augment, limits: Limits, path: Path) -> dict[str, str]:
    """Pack the copies that are worth keeping, and return the hash of each one's content by its id.

    x and content of a copy's row are still those of its original.
    """
    work = partial(_copy, policy=Policy(augment), seed=augment.seed, limits=limits)
    originals = list(zip(copies["id"], copies["x"], copies["content"], strict=True))
    altered = progress.follow(pictures.each(originals, work), "alter", len(copies), "pictures")
    digests = dict[str, str]()

    def named() -> Iterator[tuple[str, bytes]]:
        for i, copy in zip(copies["id"], altered, strict=True):
            if not isinstance(copy, PictureError):
                digests[i] = copy[0]
                yield f"{i}.png", copy[1]

    pack(named(), path)
    return digests


def _copy(
    sample: tuple[str, str, str], policy: Policy, seed: int, limits: Limits
) -> tuple[str, bytes]:
    """Return the copy `id` of the picture x: the hash of its content, and a PNG.

    Raises PictureError if the copy is not worth keeping.
    """
    name, x, content = sample
    altered = policy(reading.verified(x, content), draws.integer("altered", seed, name))
    (height, width), digest = altered.shape[:2], draws.digest_one(reading.digest(altered))
    if (
        digest == content
        or not limits.least_side <= min(width, height) <= max(width, height) <= limits.most_side
    ):
        raise PictureError(
            "no_copy", "equal to its original, or of a size that no picture may have"
        )
    pictures.write(altered, png := BytesIO())
    return digest, png.getvalue()
