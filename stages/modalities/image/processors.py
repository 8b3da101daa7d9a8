"""Find out what a base model's image processor does to a picture."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from stages.contract.errors import ModelError
from stages.contract.escape import one_line
from stages.modalities.image import pictures
from stages.modalities.image.pictures import Rgb


def resampling(processor: Any) -> int:
    """Return Pillow's number of the filter that the base model's pictures were resized with.

    It is bilinear if the base model's processor states none.
    """
    stated = getattr(processor, "resample", None)
    return int(stated) if stated is not None else pictures.BILINEAR


def affine(processor: Any) -> tuple[list[int], Any, Any] | None:
    """Return the order, shift and scale of the channels that a processor makes.

    Channel i of the result is (channel order[i] - shift[i]) * scale[i]. Returns None if the
    processor does something else.
    """
    import torch

    steps = np.zeros((4, 32, 32, 3), np.uint8)  # black, and each channel alone
    steps[[1, 2, 3], ..., [0, 1, 2]] = 255
    noise = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    black, *lit, seen = processed(processor, [*steps, *noise])
    # (result, channel lit)
    rise = torch.stack([picture[:, 0, 0] - black[:, 0, 0] for picture in lit], 1)
    order = rise.abs().argmax(1).tolist()
    scale = rise[range(len(order)), order] / 255
    shift = -black[:, 0, 0] / scale
    made = ((torch.from_numpy(noise[0])[..., order] - shift) * scale).permute(2, 0, 1)
    same = made.shape == seen.shape and torch.allclose(made, seen, atol=1e-4, rtol=1e-4)
    return (order, shift, scale) if same else None


def as_clip(processor: Any) -> Iterator[tuple[type[Any], dict[str, Any]]]:
    """Yield CLIP's class, with arguments by which it weighs and shifts channels like a processor.

    Yields nothing if it cannot.
    """
    from transformers import CLIPImageProcessorPil

    if (found := affine(processor)) and found[0] == [0, 1, 2]:
        _, shift, scale = found
        yield (
            CLIPImageProcessorPil,
            {
                "rescale_factor": 1 / 255,
                "image_mean": (shift / 255).tolist(),
                "image_std": (1 / (255 * scale)).tolist(),
                "resample": resampling(processor),
            },
        )


def processed(processor: Any, rgbs: Sequence[Rgb]) -> Any:
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
