"""Pictures: x is the path of one below data/, altered by albumentations, resized and normalised as the base model wants it."""

import contextlib
import inspect
import math
import os
import random
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import xxhash
from numpy.typing import NDArray

from stages.checks import duplicates, groups, near_pictures
from stages.contract import draws, paths, pictures, progress
from stages.contract.errors import ModelError, ReceiptError
from stages.contract.escape import extract, one_line
from stages.contract.params import Albumentations, Augment, Encoding, ImageModality, Transform
from stages.contract.pictures import Limits, PictureError, Rgb
from stages.contract.plugins import Encoded

DATA = Path("data")
COPIES = f"copies{pictures.PACK}"
FOREIGN = {"read_fn", "reference_images", "metadata_key", "font_path", "image"}  # arguments of transforms that read files, run code or need more than a picture
OPPONENTS = np.array([[1, -1, 0], [0.5, 0.5, -1]], np.float32)  # of red, green, blue: red-green and yellow-blue
PROBE = np.random.default_rng(0).integers(0, 256, (320, 352, 3), dtype=np.uint8)  # on which a transform is tried
LEAST_SIDE, MOST_PIXELS = 8, 100_000_000  # of a picture, whatever params.yaml says
KEPT_BYTES = 2**30  # of resized train pictures
SIDES = (224, 256, 384, 192, 160, 128, 96, 64, 32, 240, 260, 288, 299, 320, 331, 336, 378, 380, 392, 448, 512, 518, 600)  # that published models read
CLOSE = 0.05  # of normalised values: a level of 255 is .004 to .02
SHEET_ROWS = 30  # labels of a contact sheet
VIEWS: dict[str, tuple[int, ...]] = {"as_is": (), "mirrored": (-1,), "upside_down": (-2,), "half_turn": (-2, -1)}


def read(files: "pd.Series[Any]", encoding: Encoding) -> pd.DataFrame:  # noqa: ARG001  (a picture has none)
    """Return each file's path; it is opened when it is looked at."""
    return pd.DataFrame({"x": [_below_data(path) for path in files], "code": None, "reason": None}, index=files.index, dtype=object)


def cite(cells: "pd.Series[str]", folder: Path, source: Path) -> pd.DataFrame:
    """Return the path of the file that each cell names, relative to its table; one that is not there, or leaves the source, is bad."""
    found = pd.DataFrame({"x": cells, "code": None, "reason": None}, index=cells.index, dtype=object)
    for i, cell in cells.items():
        if not str(cell).strip():
            found.loc[i] = [cell, "empty", "names no picture"]
            continue
        code, reason = ("outside", "is no path relative to its table") if Path(cell).is_absolute() else _wrong(folder / cell, source)
        found.loc[i] = [_below_data(folder / cell), None, None] if code is None else [cell, code, f"'{extract(cell)}' {reason}"]
    return found


def _wrong(path: Path, source: Path) -> tuple[str | None, str | None]:
    if not Path(path.parent).resolve().is_relative_to(source.resolve()):
        return "outside", "leads out of the data set"
    try:
        return (None, None) if paths.regular(path, source) else ("not_regular", "is not a regular file inside the data set")
    except (FileNotFoundError, NotADirectoryError):
        return "missing_file", "is not there"
    except OSError as error:
        return "missing_file", f"cannot be looked at ({one_line(error.strerror, 100)})"


def _below_data(path: Path) -> str:
    """Return a path relative to data/, or the whole path of a file elsewhere."""
    return path.relative_to(DATA).as_posix() if path.is_relative_to(DATA) else path.absolute().as_posix()


def look(x: "pd.Series[str]", settings: ImageModality) -> pd.DataFrame:
    """Decode each picture once: its size, its cells' brightness, contrast and colourfulness, a digest of its pixels, and a fingerprint.

    Equal pixels are exact duplicates, however they are encoded.
    """
    columns = ["code", "reason", "note", "exact", "normal", "fingerprint", "shorter_side", "longer_side", "brightness", "contrast", "colourfulness"]
    seen = pictures.each([DATA / name for name in x], partial(_describe, limits=_limits(settings)))
    described = [{"code": of.code, "reason": of.reason} if isinstance(of, PictureError) else of for of in progress.follow(seen, "look at", len(x), "pictures")]
    found = pd.DataFrame(described, columns=columns, index=x.index, dtype=object)
    return found.where(found.notna(), None).astype(dict.fromkeys(columns[6:], float))


def _limits(settings: ImageModality) -> Limits:
    """Return what sizes a picture may have: as params.yaml says, within what Refit itself takes."""
    least, most = settings.sides
    return Limits(max(least, LEAST_SIDE), most, min(settings.max_pixels, MOST_PIXELS))


def _describe(path: Path, limits: Limits) -> dict[str, Any]:
    picture = pictures.read(path, limits)
    content, cells = _digest(picture.rgb), near_pictures.cells(picture.rgb)
    height, width = picture.rgb.shape[:2]
    fingerprint = near_pictures.fingerprint_of(cells, height, width)
    brightness, contrast = (float(value[0, 0]) for value in cv2.meanStdDev(fingerprint[near_pictures.LUMA]))
    return {
        "note": picture.note, "exact": content, "normal": content, "fingerprint": fingerprint,
        "shorter_side": min(width, height), "longer_side": max(width, height),
        "brightness": brightness / 255, "contrast": contrast / 255, "colourfulness": _colourfulness(cells),
    }  # fmt: skip


def _digest(rgb: Rgb) -> str:
    """Return a hash of a picture's shape and pixels: XXH3, which tells accidents and costs a tenth of a SHA-256; no seal against a forger."""
    digest = xxhash.xxh3_128(f"{rgb.shape}".encode())
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.hexdigest()


def _colourfulness(cells: "NDArray[np.float32]") -> float:
    """Return how colourful a picture is by its cells, from 0 (grey) to about 1 (Hasler & Suesstrunk 2003, over 255)."""
    means, spreads = cv2.meanStdDev(cv2.transform(cells, OPPONENTS))
    return (math.hypot(*spreads.flat) + 0.3 * math.hypot(*means.flat)) / 255


def alike(looked: pd.DataFrame) -> "pd.Series[Any]":
    """Return a number for each group of exact and confirmed near duplicates (copies of another encoding or size)."""
    fingerprints = np.stack(looked["fingerprint"].tolist()) if len(looked) else np.empty((0, 1), np.uint8)
    key = groups.linked(len(looked), near_pictures.pairs(fingerprints))
    return pd.Series(key, index=looked.index).groupby(looked["normal"]).transform("min")


def expectations(settings: ImageModality) -> list[dict[str, Any]]:
    """Return what sizes must satisfy: the least and the most of each side, and the median of the shorter ones."""
    least, most = settings.sides
    low, high = settings.median_side
    return [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "shorter_side", "min_value": least}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "longer_side", "max_value": most}},
        {"type": "expect_column_median_to_be_between", "kwargs": {"column": "shorter_side", "min_value": low, "max_value": high}},
    ]


# ---- altering --------------------------------------------------------------------------------------------------------


def traits(x: "pd.Series[str]", looked: pd.DataFrame, base: Path) -> pd.DataFrame:  # noqa: ARG001
    """Return what domains are told apart by: the shorter side, how long a picture is of one wide, and what its cells look like."""
    light = looked[["shorter_side", "brightness", "contrast", "colourfulness"]]
    return light.assign(aspect=looked["longer_side"] / looked["shorter_side"]).astype(float)


def faults(transforms: tuple[Transform, ...]) -> list[str]:
    """Return what albumentations' own signatures say against the transforms."""
    wrong = list[str]()
    for i, transform in enumerate(transforms):
        try:
            _tried(transform)
        except (ValueError, TypeError) as error:
            wrong.append(f"transforms.{i}: {one_line(error, 300)}")
    return wrong


def _named(transform: Transform) -> partial[Any]:
    """Return what makes a transform of albumentations; raises ValueError for a name or an argument that it has not, or that needs more than a picture."""
    import albumentations

    if not isinstance(transform, Albumentations):
        raise AssertionError("contract/params.py lets no text's transform in")
    made = getattr(albumentations, transform.transform, None)
    if not (inspect.isclass(made) and issubclass(made, (albumentations.ImageOnlyTransform, albumentations.DualTransform))):
        raise ValueError(f"albumentations {albumentations.__version__} has no transform {transform.transform}")
    takes = inspect.signature(made.__init__).parameters
    if FOREIGN & set(takes) or inspect.isabstract(made):
        raise ValueError(f"{transform.transform} needs more than the picture itself")
    if unknown := set(transform.arguments) - set(takes):
        raise ValueError(f"{transform.transform} has no argument {', '.join(sorted(unknown))}; it takes {', '.join(list(takes)[1:])}")
    return partial(made, **{name: tuple(value) if isinstance(value, list) else value for name, value in transform.arguments.items()})


def _tried(transform: Transform) -> None:
    """Raise ValueError or TypeError for a transform that albumentations warns of, or that makes no picture of a picture."""
    import albumentations

    made = _named(transform)
    name = made.func.__name__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            altering = made()
        except UserWarning as warning:
            raise ValueError(f"{name}: {warning}") from None
    try:
        result = albumentations.Compose([altering], seed=0)(image=PROBE)["image"]
    except Exception as error:  # of whatever type a transform raises on a picture of usual size
        raise ValueError(f"{name}: on a picture of {PROBE.shape[1]} x {PROBE.shape[0]} pixels: {one_line(error, 200)}") from None
    if result.dtype != np.uint8 or result.ndim != 3 or result.shape[2] != 3:
        raise ValueError(f"{name} makes no picture of 8 bits ({result.dtype}, {result.shape}); a model's numbers are made by its own processor")


class _Policy(threading.local):
    """The transforms, made once a thread, and anew in another process: drawing changes their state."""

    def __init__(self, augment: Augment) -> None:
        import albumentations

        self.augment = augment
        # Untried: filters of warnings are the whole process's, and threads that set them side by side leave them set.
        self.compose = albumentations.Compose([_named(transform)() for transform in augment.transforms])

    def __reduce__(self) -> tuple[type, tuple[Augment]]:
        return _Policy, (self.augment,)

    def __call__(self, rgb: Rgb, draw: int) -> Rgb:
        """Return an RGB array altered by all transforms in turn; the draw decides, and nothing else."""
        # Not set_random_seed: it hands every transform a generator of the same seed, so that all share their first draw.
        self.compose.set_random_state(np.random.default_rng(draw), random.Random(draw))
        return self.compose(image=rgb)["image"]


def alter(samples: pd.DataFrame, augment: Augment, settings: ImageModality, files: Path, below: str) -> pd.DataFrame:
    """Write altered copies of samples as PNG, all into one archive; a draw depends on (seed, id, number) and on nothing else.

    A copy that came out equal to its original, or of a size that no original may have, is left out.
    """
    chosen = samples[[draws.uniform("chosen", augment.seed, i) < augment.share for i in samples["id"]]]
    if not augment.transforms or chosen.empty or not augment.copies:
        return samples.iloc[:0]
    copies = pd.concat([chosen.assign(id=chosen["id"] + f"+{number}", source_id=chosen["id"]) for number in range(1, augment.copies + 1)], ignore_index=True)
    work = partial(_copy, policy=_Policy(augment), seed=augment.seed, limits=_limits(settings))
    altered = progress.follow(pictures.each(list(zip(copies["id"], copies["x"], copies["content"], strict=True)), work), "alter", len(copies), "pictures")
    digests = dict[str, str]()

    def named() -> Iterator[tuple[str, bytes]]:
        for i, of in zip(copies["id"], altered, strict=True):
            if not isinstance(of, PictureError):
                digests[i] = of[0]
                yield f"{i}.png", of[1]

    pictures.pack(named(), files / COPIES)
    copies["x"] = f"{below}/{COPIES}/" + copies["id"] + ".png"
    copies["content"] = copies["id"].map(digests)
    return pd.concat([samples.iloc[:0], copies[copies["content"].notna()]], ignore_index=True)


def _copy(sample: tuple[str, str, str], policy: _Policy, seed: int, limits: Limits) -> tuple[str, bytes]:
    """Return the copy `id` of the picture x: the hash of its content, and a PNG; raises PictureError where no copy is worth it."""
    name, x, content = sample
    altered = policy(_verified(x, content), draws.integer("altered", seed, name))
    (height, width), digest = altered.shape[:2], duplicates.digest_one(_digest(altered))
    if digest == content or not limits.least_side <= min(width, height) <= max(width, height) <= limits.most_side:
        raise PictureError("no_copy", "equal to its original, or of a size that no picture may have")
    pictures.write(altered, png := BytesIO())
    return digest, png.getvalue()


def preview(originals: pd.DataFrame, copies: pd.DataFrame, files: Path, below: str, into: Path) -> None:
    """Write contact_sheet.png: a row a label, each original (bold) beside its copies."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    cells = dict[str, list[tuple[str, Rgb]]]()
    for (_, original), (_, copy) in zip(originals.iterrows(), copies.iterrows(), strict=True):
        row = cells.setdefault(", ".join(copy["y"]), [])
        row += [] if any(name == original["id"] for name, _ in row) else [(original["id"], _verified(original["x"], original["content"]))]
        row.append((copy["id"], pictures.read(files / Path(copy["x"]).relative_to(below), pictures.ANY).rgb))
    shown, width = list(cells.items())[:SHEET_ROWS], max(map(len, cells.values()), default=1)
    figure, axes = plt.subplots(max(1, len(shown)), width, figsize=(1.5 * width + 1, 1.6 * max(1, len(shown))), squeeze=False, layout="constrained")
    for at in axes.flat:
        at.set_axis_off()
    for row, (label, pair) in zip(axes, shown, strict=False):
        for at, (name, rgb) in zip(row, pair, strict=False):
            at.imshow(rgb)
            at.set_title("altered" if "+" in name else extract(label), fontsize="small", fontweight="normal" if "+" in name else "bold", parse_math=False)
    figure.savefig(into / "contact_sheet.png", dpi=100, metadata={"Software": None})
    plt.close(figure)


def _verified(x: str, content: str | None) -> Rgb:
    """Return the pixels of a picture that validate has seen; raises ReceiptError where they are others now."""
    try:
        rgb = pictures.read(DATA / x, pictures.ANY).rgb
    except PictureError as error:
        raise ReceiptError(f"data/{extract(x)}: {error.reason}; it could be read before, run `dvc checkout` or validate anew") from None
    if content is not None and duplicates.digest_one(_digest(rgb)) != content:
        raise ReceiptError(f"data/{extract(x)}: its pixels are not those that validate saw; run `dvc checkout`, or validate anew")
    return rgb


# ---- the model's inputs ----------------------------------------------------------------------------------------------


def processor(folder: Path) -> Any:
    """Load the image processor of a model folder: its mean, deviation and scale are used, sizes are those of params.yaml."""
    from transformers import AutoImageProcessor
    from transformers.utils import logging

    logging.set_verbosity_error()  # without torchvision it says that it takes Pillow
    try:
        return AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # files of anybody's: errors of any type are raised on them
        raise ModelError(
            f"{folder}: its image processor cannot be loaded ({one_line(error, 300)}); bring the base model's own preprocessor_config.json"
        ) from error


class _Inputs:
    """Rows of pixel_values (crop, crop, 3), uint8, read when they are asked for; collate makes the model's inputs of them."""

    def __init__(self, samples: pd.DataFrame, processor: Any, settings: ImageModality, augment: Augment | None, room: int = 0) -> None:
        self.x, self.settings, self.filter = samples["x"].tolist(), settings, _filter(processor)
        self.content = samples["content"].tolist() if "content" in samples else [None] * len(samples)
        self.ids = samples["id"].tolist() if augment else []
        self.augment, self.policy, self.epoch = augment, _Policy(augment) if augment else None, 0
        self.anew = augment is not None
        self.kept, self.room, self.keeping = dict[int, Rgb](), room, threading.Lock()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> dict[str, Any]:
        rgb = self._resized(i)
        if self.augment and self.policy:
            rgb = self.policy(rgb, draws.integer("anew", self.augment.seed, f"{self.ids[i]}:{self.epoch}"))
        return {"pixel_values": _as_tensor(_cropped(rgb, self.settings.crop, self.filter))}

    def __getitems__(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """Return several rows, read and altered side by side: torch asks for a batch in this way."""
        return list(self._readers.map(self.__getitem__, places))

    @cached_property
    def _readers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    def _resized(self, i: int) -> Rgb:
        """Return row i as it is before it is altered; what is asked for again in each epoch is kept, as far as there is room."""
        if i in self.kept:
            return self.kept[i]
        rgb = _resized(_verified(self.x[i], self.content[i]), self.settings, self.filter)
        with self.keeping:
            if rgb.nbytes <= self.room:
                self.kept[i], self.room = rgb, self.room - rgb.nbytes
        return rgb

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def _filter(processor: Any) -> int:
    """Return the filter that the base model's pictures were resized with, by Pillow's number; bilinear where its processor states none."""
    stated = getattr(processor, "resample", None)
    return int(stated) if stated is not None else pictures.BILINEAR


def _resized(rgb: Rgb, settings: ImageModality, filter: int = pictures.BILINEAR) -> Rgb:
    """Return a picture whose shorter side is as the settings say, as transformers resizes it."""
    return _with_side(rgb, settings.shorter_side, filter)


def _with_side(rgb: Rgb, side: int, filter: int) -> Rgb:
    height, width = rgb.shape[:2]
    size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    return rgb if size == (width, height) else pictures.resize(rgb, size, filter)


def _cropped(rgb: Rgb, side: int, filter: int = pictures.BILINEAR) -> Rgb:
    """Return the square at the centre; a picture that a transform made smaller is enlarged first."""
    height, width = rgb.shape[:2]
    if min(height, width) < side:
        rgb = _with_side(rgb, side, filter)
        height, width = rgb.shape[:2]
    top, left = (height - side) // 2, (width - side) // 2
    return rgb[top : top + side, left : left + side]


def encode(samples: pd.DataFrame, processor: Any, settings: ImageModality) -> Encoded:
    """Return rows of pixel_values (crop, crop, 3); each picture is read, and its pixels verified, when its row is asked for."""
    return _Inputs(samples, processor, settings, None)


def largest(processor: Any, settings: ImageModality, rows: int) -> Encoded:  # noqa: ARG001  (a picture's size is the settings' alone)
    """Return rows of pixel_values (crop, crop, 3) of noise: what the model reads at most."""
    import torch

    noise = np.random.default_rng(0).integers(0, 256, (rows, settings.crop, settings.crop, 3), dtype=np.uint8)
    return [{"pixel_values": torch.from_numpy(of)} for of in noise]


def within(settings: ImageModality, passes: Callable[[ImageModality], bool]) -> ImageModality | None:
    """Return settings with the crop, of those that models are known to read, which is nearest to theirs and passes; null where none does."""
    for side in sorted(SIDES, key=lambda side: abs(side - settings.crop)):
        if passes(other := replace(settings, crop=side, shorter_side=max(side, side * settings.shorter_side // settings.crop))):
            return other
    return None


def stated(processor: Any, settings: ImageModality) -> Any:
    """Return a processor that says the sizes that the model was trained with, so that transformers prepares pictures as Refit does.

    It is of the base model's own class or, where that class resizes in a way of its own (ConvNeXT, LeViT), of CLIP's. Which one does
    is tried on a picture; raises ModelError where neither does.
    """
    rgb = np.random.default_rng(0).integers(0, 256, (settings.crop + 8, 2 * settings.crop, 3), dtype=np.uint8)
    wanted = collate(processor)([{"pixel_values": _as_tensor(_cropped(_resized(rgb, settings, _filter(processor)), settings.crop))}])["pixel_values"]
    sizes = {
        "do_resize": True, "size": {"shortest_edge": settings.shorter_side},
        "do_center_crop": True, "crop_size": {"height": settings.crop, "width": settings.crop},
    }  # fmt: skip
    for kind, values in chain([(type(processor), processor.to_dict())], _as_clip(processor)):
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            made = kind(**values | sizes)
            found = made(images=rgb, return_tensors="pt")["pixel_values"]
            if found.shape == wanted.shape and float((found - wanted).abs().max()) < CLOSE:
                return made
    raise ModelError(
        f"the base model's image processor, {type(processor).__name__}, cannot be told to resize to {settings.shorter_side} and crop to {settings.crop} "
        "pixels as Refit does; take another base"
    )


def _as_clip(processor: Any) -> Iterator[tuple[type[Any], dict[str, Any]]]:
    """Yield CLIP's class, with arguments by which it weighs and shifts channels as a processor does; nothing where it cannot."""
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
    """Return what the inputs of a picture depend on."""
    return settings.shorter_side, settings.crop


def show(samples: pd.DataFrame, settings: ImageModality) -> list[Rgb]:
    """Return the square of each picture that the model sees."""
    content = samples["content"] if "content" in samples else [None] * len(samples)
    return [_cropped(_resized(_verified(x, of), settings), settings.crop) for x, of in zip(samples["x"], content, strict=True)]


def encode_anew(samples: pd.DataFrame, processor: Any, settings: ImageModality, augment: Augment) -> Encoded:
    """Return the same for rows that each epoch asks for, altered by the transforms at shorter_side, a draw for each (seed, id, epoch), if augment says so."""
    return _Inputs(samples, processor, settings, augment if augment.on_the_fly and augment.transforms else None, KEPT_BYTES)


def encode_altered(samples: pd.DataFrame, processor: Any, settings: ImageModality, transform: Transform, seed: int) -> Encoded:
    """Return rows of pixel_values, each picture altered at shorter_side when its row is asked for."""
    return _Inputs(samples, processor, settings, Augment(seed, 1.0, 0, on_the_fly=True, transforms=(transform,)))


def lengths(encoded: Encoded) -> list[int]:
    """Return the same for each: all pictures are of one size."""
    return [1] * len(encoded)


def views(inputs: dict[str, Any], settings: ImageModality) -> list[dict[str, Any]]:
    """Return the batch mirrored and turned as the settings say."""
    return [{"pixel_values": inputs["pixel_values"].flip(VIEWS[view]) if VIEWS[view] else inputs["pixel_values"]} for view in settings.views]


def collate(processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Return what makes pixel_values (rows, 3, crop, crop), float32, of rows, as the processor does: in memory channels come last, as convolutions like it.

    Most processors weigh and shift channels, in some order; what they do is asked of them once, and done for a whole batch at a time
    where that proves to be all. Any other is called for each batch.
    """
    import torch

    affine = _affine(processor)

    def stack(rows: list[dict[str, Any]]) -> dict[str, Any]:
        others = {name: torch.as_tensor([row[name] for row in rows]) for name in rows[0] if name != "pixel_values"}
        if affine is None:
            return {"pixel_values": _processed(processor, [row["pixel_values"].numpy() for row in rows]), **others}
        order, shift, scale = affine
        pixels = torch.stack([row["pixel_values"] for row in rows])
        pixels = ((pixels if order == [0, 1, 2] else pixels[..., order]) - shift) * scale
        return {"pixel_values": pixels.permute(0, 3, 1, 2), **others}

    return stack


def _affine(processor: Any) -> tuple[list[int], Any, Any] | None:
    """Return order, shift and scale: channel i of the result is (channel order[i] - shift[i]) * scale[i]; null where a processor does something else."""
    import torch

    side, steps = 32, np.zeros((4, 32, 32, 3), np.uint8)
    for channel in range(3):
        steps[channel + 1, ..., channel] = 255
    noise = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    black, *lit, seen = _processed(processor, [*steps, *noise])
    rise = torch.stack([of[:, 0, 0] - black[:, 0, 0] for of in lit], 1)  # (result, channel lit)
    order = rise.abs().argmax(1).tolist()
    scale = rise[range(len(order)), order] / 255
    shift = -black[:, 0, 0] / scale
    made = ((torch.from_numpy(noise[0])[..., order] - shift) * scale).permute(2, 0, 1)
    return (order, shift, scale) if made.shape == seen.shape and torch.allclose(made, seen, atol=1e-4, rtol=1e-4) else None


def _processed(processor: Any, rgbs: Sequence[Rgb]) -> Any:
    """Return pixel_values (rows, channels, height, width) as the processor makes them of pictures of the right size; ModelError where it makes none."""
    asked: dict[str, Any] = {"do_resize": False, "do_center_crop": False, "input_data_format": "channels_last", "return_tensors": "pt"}
    try:
        return processor(images=list(rgbs), **asked)["pixel_values"].float()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            f"the base model's image processor, {type(processor).__name__}, makes no pixel_values of a picture ({one_line(error, 200)}); take another base"
        ) from error


def _as_tensor(rgb: Rgb) -> Any:
    import torch

    return torch.from_numpy(np.array(rgb))  # a copy: what is kept is read-only
