"""Encode pictures as the base model wants them: resized, cropped and normalised."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
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
from stages.contract.plugins import Encoded
from stages.modalities.image import pictures, reading
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
        self.x, self.settings, self.filter = samples["x"].tolist(), settings, _filter(processor)
        self.content = (
            samples["content"].tolist() if "content" in samples else [None] * len(samples)
        )
        self.ids = samples["id"].tolist() if augment else []
        self.augment, self.policy, self.epoch = augment, Policy(augment) if augment else None, 0
        self.anew = augment is not None
        self.kept, self.room, self.keeping = dict[int, Rgb](), room, threading.Lock()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> dict[str, Any]:
        rgb = self._resized(i)
        if self.augment and self.policy:
            rgb = self.policy(
                rgb, draws.integer("anew", self.augment.seed, f"{self.ids[i]}:{self.epoch}")
            )
        return {"pixel_values": _as_tensor(_cropped(rgb, self.settings.crop, self.filter))}

    def __getitems__(self, places: Sequence[int]) -> list[dict[str, Any]]:
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


def _filter(processor: Any) -> int:
    """Return Pillow's number of the filter that the base model's pictures were resized with.

    It is bilinear if the base model's processor states none.
    """
    stated = getattr(processor, "resample", None)
    return int(stated) if stated is not None else pictures.BILINEAR


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
        if passes(
            other := replace(
                settings,
                crop=side,
                shorter_side=max(side, side * settings.shorter_side // settings.crop),
            )
        ):
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
    wanted = collate(processor)(
        [{"pixel_values": _as_tensor(seen(rgb, settings, _filter(processor)))}]
    )["pixel_values"]
    sizes = {
        "do_resize": True, "size": {"shortest_edge": settings.shorter_side},
        "do_center_crop": True, "crop_size": {"height": settings.crop, "width": settings.crop},
    }  # fmt: skip
    for kind, values in chain([(type(processor), processor.to_dict())], _as_clip(processor)):
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


def _as_clip(processor: Any) -> Iterator[tuple[type[Any], dict[str, Any]]]:
    """Yield CLIP's class, with arguments by which it weighs and shifts channels like a processor.

    Yields nothing if it cannot.
    """
    from transformers import CLIPImageProcessorPil

    if (affine := _affine(processor)) and affine[0] == [0, 1, 2]:
        _, shift, scale = affine
        yield (
            CLIPImageProcessorPil,
            {
                "rescale_factor": 1 / 255,
                "image_mean": (shift / 255).tolist(),
                "image_std": (1 / (255 * scale)).tolist(),
                "resample": _filter(processor),
            },
        )


def encoding(settings: ImageModality) -> tuple[int, int]:
    """Return the settings that the inputs of a picture depend on."""
    return settings.shorter_side, settings.crop


def lengths(encoded: Encoded) -> list[int]:
    """Return the same length for each row: all pictures have one size."""
    return [1] * len(encoded)


def views(inputs: dict[str, Any], settings: ImageModality) -> list[dict[str, Any]]:
    """Return the batch mirrored and turned as the settings say."""
    return [
        {
            "pixel_values": inputs["pixel_values"].flip(VIEWS[view])
            if VIEWS[view]
            else inputs["pixel_values"]
        }
        for view in settings.views
    ]


def collate(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Return a function that makes pixel_values (rows, 3, crop, crop), float32, of rows.

    It does what the processor does; in memory channels come last, as convolutions like it. Most
    processors weigh and shift channels, in some order: what a processor does is found out once and,
    if that proves to be all, done for a whole batch at a time. Any other processor is called for
    each batch.
    """
    import torch

    affine = _affine(processor)

    def stack(rows: list[dict[str, Any]]) -> dict[str, Any]:
        others = {
            name: torch.as_tensor([row[name] for row in rows])
            for name in rows[0]
            if name != "pixel_values"
        }
        if affine is None:
            return {
                "pixel_values": _processed(
                    processor, [row["pixel_values"].numpy() for row in rows]
                ),
                **others,
            }
        order, shift, scale = affine
        pixels = torch.stack([row["pixel_values"] for row in rows])
        pixels = ((pixels if order == [0, 1, 2] else pixels[..., order]) - shift) * scale
        return {"pixel_values": pixels.permute(0, 3, 1, 2), **others}

    return stack


def _affine(processor: Any) -> tuple[list[int], Any, Any] | None:
    """Return the order, shift and scale of the channels that a processor makes.

    Channel i of the result is (channel order[i] - shift[i]) * scale[i]. Returns None if the
    processor does something else.
    """
    import torch

    side, steps = 32, np.zeros((4, 32, 32, 3), np.uint8)
    for channel in range(3):
        steps[channel + 1, ..., channel] = 255
    noise = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    black, *lit, seen = _processed(processor, [*steps, *noise])
    # (result, channel lit)
    rise = torch.stack([picture[:, 0, 0] - black[:, 0, 0] for picture in lit], 1)
    order = rise.abs().argmax(1).tolist()
    scale = rise[range(len(order)), order] / 255
    shift = -black[:, 0, 0] / scale
    made = ((torch.from_numpy(noise[0])[..., order] - shift) * scale).permute(2, 0, 1)
    return (
        (order, shift, scale)
        if made.shape == seen.shape and torch.allclose(made, seen, atol=1e-4, rtol=1e-4)
        else None
    )


def _processed(processor: Any, rgbs: Sequence[Rgb]) -> Any:
    """Return pixel_values (rows, channels, height, width) of pictures of the right size.

    The processor makes them; raises ModelError if it makes none.
    """
    asked: dict[str, Any] = {
        "do_resize": False,
        "do_center_crop": False,
        "input_data_format": "channels_last",
        "return_tensors": "pt",
    }
    try:
        return processor(images=list(rgbs), **asked)["pixel_values"].float()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            f"the base model's image processor, {type(processor).__name__}, makes no pixel_values "
            f"of a picture ({one_line(error, 200)}); take another base"
        ) from error


def _as_tensor(rgb: Rgb) -> Any:
    import torch

    return torch.from_numpy(np.array(rgb))  # a copy: what is kept is read-only
