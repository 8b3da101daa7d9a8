"""Show where in a picture a model looks when it decides."""

from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd

from stages.modalities.image import encoding, reading
from stages.modalities.image.showing import SIDE

# Noisy copies of a picture: Smilkov et al. see little gain beyond 50, and 16 cost a third of that.
COPIES = 16
NOISE = 0.15  # standard deviation of the noise, as a share of the picture's range of values
SEED = 7  # draws the noise
ROWS = 8  # pictures that go through the model at a time: the gradient keeps every layer's output


def explain(scorer: Any, samples: pd.DataFrame, predicted: "pd.Series[str]") -> list[bytes]:
    """Return each picture with its saliency map laid over it."""
    rows, labels = scorer.encode(samples), scorer.saved.labels
    inputs = encoding.collate(scorer.processor)([rows[i] for i in range(len(rows))])["pixel_values"]
    maps = saliency(scorer.model, inputs, [labels.index(label) for label in predicted], SEED)
    shown = (
        encoding.seen(reading.verified(x, content), scorer.settings)
        for x, content in zip(samples["x"], samples["content"], strict=True)
    )
    return [overlay(rgb, looked, SIDE) for rgb, looked in zip(shown, maps, strict=True)]


def saliency(model: Any, inputs: Any, targets: Any, seed: int) -> "np.ndarray[Any, Any]":
    """Return maps of how much each pixel of inputs moves the logit of its row's target.

    The maps are (rows, height, width), in [0, 1]. model is a transformers image classifier, inputs
    its pixel_values (rows, channels, height, width), targets the indices of the labels asked about.
    A map is the absolute gradient, its greatest channel (Simonyan et al. 2013), mean over noisy
    copies of the picture (SmoothGrad, Smilkov et al. 2017); 1 is its 99th percentile, as they plot
    it. The model's mode, parameters and gradients, and torch's random state, are left as they were.
    """
    import torch

    device = next(model.parameters()).device
    noise = torch.Generator().manual_seed(seed)  # of the CPU: the same on every device
    modes = {module: module.training for module in model.modules()}
    maps: list[np.ndarray[Any, Any]] = []
    try:
        model.eval()
        with torch.inference_mode(False), torch.enable_grad():
            for start in range(0, len(inputs), ROWS):
                pictures = inputs[start : start + ROWS].detach().clone().to(device)
                wanted = torch.as_tensor(targets[start : start + ROWS], device=device)[:, None]
                maps.append(_gradients(model, pictures, wanted, noise).cpu().numpy())
    finally:
        for module, training in modes.items():
            module.training = training
    gradients = np.concatenate(maps)
    top = np.quantile(gradients, 0.99, axis=(1, 2), keepdims=True)
    return np.divide(gradients, top, out=np.zeros_like(gradients), where=top > 0).clip(0, 1)


def _gradients(model: Any, pictures: Any, wanted: Any, noise: Any) -> Any:
    """Return the sum, over noisy copies, of the gradients of the wanted logits (rows, 1)."""
    import torch

    spread = NOISE * (
        pictures.amax(dim=(1, 2, 3), keepdim=True) - pictures.amin(dim=(1, 2, 3), keepdim=True)
    )
    total = torch.zeros_like(pictures[:, 0])
    for _ in range(COPIES):
        drawn = torch.randn(pictures.shape, generator=noise).to(pictures.device)
        copies = (pictures + spread * drawn).requires_grad_()
        logits = model(pixel_values=copies).logits
        (moved,) = torch.autograd.grad(logits.gather(1, wanted).sum(), copies)
        total += moved.abs().amax(dim=1)
    return total


def overlay(rgb: "np.ndarray[Any, Any]", map: "np.ndarray[Any, Any]", side: int) -> bytes:
    """Return a picture as PNG, greyed, with its map laid over it in colour.

    The picture is (height, width, 3), uint8; the map has any size.
    """
    import matplotlib as mpl
    from PIL import Image

    picture = Image.fromarray(rgb)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    heat = _heat(map, picture.size, side)
    grey = np.asarray(picture.convert("L").convert("RGB"), dtype=float)
    laid = (
        grey * (1 - 0.8 * heat) + 255 * mpl.colormaps["inferno"](heat[..., 0])[..., :3] * 0.8 * heat
    )
    file = BytesIO()
    Image.fromarray(laid.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _heat(map: "np.ndarray[Any, Any]", size: tuple[int, int], side: int) -> "np.ndarray[Any, Any]":
    """Return a map as large as a picture and blurred, (height, width, 1), its greatest value 1."""
    from PIL import Image, ImageFilter

    large = Image.fromarray((map * 255).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    blurred = large.filter(ImageFilter.GaussianBlur(side / 60))
    heat = np.asarray(blurred, dtype=float) / 255
    return (heat / max(heat.max(), 1e-9))[..., None]
