"""Encode pictures as the base model wants them: resized, cropped and normalised."""

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.contract import draws
from stages.contract.errors import ModelError
from stages.contract.escape import one_line
from stages.contract.learning import Encoded, Inputs
from stages.modalities.image import pictures, processors, reading
from stages.modalities.image.altering import Policy
from stages.modalities.image.pictures import Rgb
from stages.params.augment import Augment, Transform
from stages.params.image import ImageModality

KEPT_BYTES = 2**30  # of resized train pictures
# Sides that published models read.
SIDES = (224, 256, 384, 192, 160, 128, 96, 64, 32, 240, 260, 288, 299, 320, 331, 336, 378, 380,
         392, 448, 512, 518, 600)  # fmt: skip
CLOSE = 0.05  # of normalised values: a level of 255 is .004 to .02
VIEWS: dict[str, tuple[int, ...]] = {
    "as_is": (),
    "mirrored": (-1,),
    "upside_down": (-2,),
    "half_turn": (-2, -1),
}


def processor(folder: Path) -> Any:
    """Load the image processor of a model folder.

    Its mean, deviation and scale are used; the sizes are those of params.yaml.
    """
    from transformers import AutoImageProcessor
    from transformers.utils import logging

    logging.set_verbosity_error()  # without torchvision it reports that it takes Pillow
    try:
        return AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # anybody may have written the files: any type is raised
        raise ModelError(
            f"{folder}: its image processor cannot be loaded ({one_line(error, 300)}); bring the "
            "base model's own preprocessor_config.json"
        ) from error


class _Inputs:
    """Rows of pixel_values (crop, crop, 3), uint8, read when they are asked for.

    collate makes the model's inputs of them.
    """

    def __init__(
        self,
        samples: pd.DataFrame,
        processor: Any,
        settings: ImageModality,
        augment: Augment | None,
        room: int = 0,
    ) -> None:
        self.x, self.settings = samples["x"].tolist(), settings
        self.filter = processors.resampling(processor)
        self.content = (
            samples["content"].tolist() if "content" in samples else [None] * len(samples)
        )
        self.ids = samples["id"].tolist() if augment else []
        self.augment, self.policy, self.epoch = augment, Policy(augment) if augment else None, 0
        self.anew = augment is not None
        self.kept, self.room, self.keeping = dict[int, Rgb](), room, threading.Lock()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Inputs:
        rgb = self._resized(i)
        if self.augment and self.policy:
            rgb = self.policy(
                rgb, draws.integer("anew", self.augment.seed, f"{self.ids[i]}:{self.epoch}")
            )
        return {"pixel_values": _as_tensor(_cropped(rgb, self.settings.crop, self.filter))}

    def __getitems__(self, places: Sequence[int]) -> list[Inputs]:
        """Return several rows, read and altered side by side: torch asks for a batch this way."""
        return list(self._readers.map(self.__getitem__, places))

    @cached_property
    def _readers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    def _resized(self, i: int) -> Rgb:
        """Return row i before it is altered.

        Rows that each epoch asks for again are kept as far as there is room.
        """
        if i in self.kept:
            return self.kept[i]
        rgb = _resized(reading.verified(self.x[i], self.content[i]), self.settings, self.filter)
        with self.keeping:
            if rgb.nbytes <= self.room:
                self.kept[i], self.room = rgb, self.room - rgb.nbytes
        return rgb

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def _resized(rgb: Rgb, settings: ImageModality, filter: int = pictures.BILINEAR) -> Rgb:
    """Return a picture with the shorter side of the settings, as transformers resizes it."""
    return _with_side(rgb, settings.shorter_side, filter)


def _with_side(rgb: Rgb, side: int, filter: int) -> Rgb:
    height, width = rgb.shape[:2]
    size = (
        (side, int(side * height / width))
        if width <= height
        else (int(side * width / height), side)
    )
    return rgb if size == (width, height) else pictures.resize(rgb, size, filter)


def _cropped(rgb: Rgb, side: int, filter: int = pictures.BILINEAR) -> Rgb:
    """Return the square at the centre; a picture that a transform made smaller grows first."""
    height, width = rgb.shape[:2]
    if min(height, width) < side:
        rgb = _with_side(rgb, side, filter)
        height, width = rgb.shape[:2]
    top, left = (height - side) // 2, (width - side) // 2
    return rgb[top : top + side, left : left + side]


def seen(rgb: Rgb, settings: ImageModality, filter: int = pictures.BILINEAR) -> Rgb:
    """Return the square of a picture that the model sees."""
    return _cropped(_resized(rgb, settings, filter), settings.crop, filter)


def encode(samples: pd.DataFrame, processor: Any, settings: ImageModality) -> Encoded:
    """Return rows of pixel_values (crop, crop, 3).

    Each picture is read, and its pixels are verified, when its row is asked for.
    """
    return _Inputs(samples, processor, settings, None)


def encode_anew(
    samples: pd.DataFrame, processor: Any, settings: ImageModality, augment: Augment
) -> Encoded:
    """Return the same for rows that each epoch asks for, altered if augment says so.

    The transforms alter a picture at shorter_side, with a draw for each (seed, id, epoch).
    """
    return _Inputs(
        samples,
        processor,
        settings,
        augment if augment.on_the_fly and augment.transforms else None,
        KEPT_BYTES,
    )


def encode_altered(
    samples: pd.DataFrame, processor: Any, settings: ImageModality, transform: Transform, seed: int
) -> Encoded:
    """Return rows of pixel_values, each altered at shorter_side when it is asked for."""
    return _Inputs(
        samples,
        processor,
        settings,
        Augment(seed, 1.0, 0, on_the_fly=True, transforms=(transform,)),
    )


def largest(processor: Any, settings: ImageModality, rows: int) -> Encoded:  # noqa: ARG001  (a picture's size is the settings' alone)
    """Return rows of pixel_values (crop, crop, 3) of noise: the most that the model reads."""
    import torch

    noise = np.random.default_rng(0).integers(
        0, 256, (rows, settings.crop, settings.crop, 3), dtype=np.uint8
    )
    return [{"pixel_values": torch.from_numpy(picture)} for picture in noise]


def within(
    settings: ImageModality, passes: Callable[[ImageModality], bool]
) -> ImageModality | None:
    """Return settings with the crop nearest to theirs that passes; None if none does.

    The crop is one that models are known to read.
    """
    for side in sorted(SIDES, key=lambda side: abs(side - settings.crop)):
        shorter_side = max(side, side * settings.shorter_side // settings.crop)
        if passes(other := replace(settings, crop=side, shorter_side=shorter_side)):
            return other
    return None


def stated(processor: Any, settings: ImageModality) -> Any:
    """Return a processor that states the sizes that the model was trained with.

    With it transformers prepares pictures as Refit does. Its class is the base model's own or, if
    that class resizes in a way of its own (ConvNeXT, LeViT), CLIP's. A picture is tried with each;
    raises ModelError if neither prepares it as Refit does.
    """
    rgb = np.random.default_rng(0).integers(
        0, 256, (settings.crop + 8, 2 * settings.crop, 3), dtype=np.uint8
    )
    row = {"pixel_values": _as_tensor(seen(rgb, settings, processors.resampling(processor)))}
    wanted = collate(processor)([row])["pixel_values"]
    sizes = {
        "do_resize": True, "size": {"shortest_edge": settings.shorter_side},
        "do_center_crop": True, "crop_size": {"height": settings.crop, "width": settings.crop},
    }  # fmt: skip
    own = type(processor), processor.to_dict()
    for kind, values in chain([own], processors.as_clip(processor)):
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            made = kind(**values | sizes)
            prepared = made(images=rgb, return_tensors="pt")["pixel_values"]
            if prepared.shape == wanted.shape and float((prepared - wanted).abs().max()) < CLOSE:
                return made
    raise ModelError(
        f"the base model's image processor, {type(processor).__name__}, cannot be told to resize "
        f"to {settings.shorter_side} and crop to {settings.crop} pixels as Refit does; take "
        "another base"
    )


def encoding(settings: ImageModality) -> tuple[int, int]:
    """Return the settings that the inputs of a picture depend on."""
    return settings.shorter_side, settings.crop


def lengths(encoded: Encoded) -> list[int]:
    """Return the same length for each row: all pictures have one size."""
    return [1] * len(encoded)


def views(inputs: Inputs, settings: ImageModality) -> list[Inputs]:
    """Return the batch mirrored and turned as the settings say."""
    return [
        {
            "pixel_values": inputs["pixel_values"].flip(VIEWS[view])
            if VIEWS[view]
            else inputs["pixel_values"]
        }
        for view in settings.views
    ]


def collate(processor: Any) -> Callable[[list[Inputs]], Inputs]:
    """Return a function that makes pixel_values (rows, 3, crop, crop), float32, of rows.

    It does what the processor does; in memory channels come last, as convolutions like it. Most
    processors weigh and shift channels, in some order: what a processor does is found out once and,
    if that proves to be all, done for a whole batch at a time. Any other processor is called for
    each batch.
    """
    import torch

    affine = processors.affine(processor)

    def stack(rows: list[Inputs]) -> Inputs:
        others = {
            name: torch.as_tensor([row[name] for row in rows])
            for name in rows[0]
            if name != "pixel_values"
        }
        pixels = [row["pixel_values"] for row in rows]
        if affine is None:
            values = processors.processed(processor, [picture.numpy() for picture in pixels])
        else:
            values = _weighed(torch.stack(pixels), *affine)
        return {"pixel_values": values, **others}

    return stack


def _weighed(pixels: Any, order: list[int], shift: Any, scale: Any) -> Any:
    pixels = ((pixels if order == [0, 1, 2] else pixels[..., order]) - shift) * scale
    return pixels.permute(0, 3, 1, 2)


def _as_tensor(rgb: Rgb) -> Any:
    import torch

    return torch.from_numpy(np.array(rgb))  # a copy: what is kept is read-only
