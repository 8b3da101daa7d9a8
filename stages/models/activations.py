"""Run a base model as it was pretrained, and keep what its layers return for each sample.

That is an embedding, what reaches a head, and what reached BatchNorm.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.contract import progress
from stages.contract.errors import ModelError
from stages.contract.learning import Inputs
from stages.contract.modality import Modality
from stages.contract.problem import Problem
from stages.models import device, linear, loading
from stages.params.compute import Compute

Floats = NDArray[np.float32]

# Rows whose BatchNorm layers are watched at a time: a picture's layers take a hundred times its
# memory.
WATCHED_AT_ONCE = 16
RESAMPLES = 500
SIZES = (25, 50, 100, 200, 500, 1000)  # rows of the draws that a profile knows


@dataclass(frozen=True)
class Seen:
    """What a base model saw of samples (rows), float32.

    features are what reaches a new head (rows, width), or the embeddings if a head is more than one
    layer. means and squares are the means and mean squares of what reaches each channel of each
    BatchNorm layer (rows, channels of all layers); kept are the statistics that the layers carry
    from pretraining (2, channels: mean, variance); layers says how many channels each layer has.
    """

    embeddings: Floats
    means: Floats
    squares: Floats
    kept: Floats
    layers: list[int]
    features: Floats


@dataclass(frozen=True)
class _Loaded:
    """A base model on its device, with a new head."""

    model: Any
    layer: Any
    """of the head; None if it is not one layer"""
    processor: Any


class Base:
    """A base model as it was pretrained, loaded when it is first asked.

    Each row goes through it once for each way to encode it.
    """

    def __init__(
        self, folder: Path, of_x: Modality, of_y: Problem, modality: Any, compute: Compute
    ) -> None:
        self.folder, self.of_x, self.of_y, self.modality, self.compute = (
            folder,
            of_x,
            of_y,
            modality,
            compute,
        )
        self._seen = dict[tuple[Any, ...], dict[str, tuple[Floats, Floats]]]()

    @cached_property
    def _loaded(self) -> _Loaded:
        return _load(self.folder, self.of_x, self.of_y, self.modality.name, self.compute)

    def holds(self, rows: pd.DataFrame, modality: Any) -> bool:
        """Tell whether all rows (id) went through the model already, encoded by these settings."""
        return set(rows["id"]) <= self._seen.get(self.of_x.encoding.encoding(modality), {}).keys()

    def embed(self, rows: pd.DataFrame, modality: Any = None) -> Floats:
        """Return the embeddings (rows, width) of manifest rows.

        The rows are encoded as the task says, or as other settings of the modality say.
        """
        return np.stack([embedding for embedding, _ in self._of(rows, modality or self.modality)])

    def features(self, rows: pd.DataFrame) -> Floats:
        """Return what reaches a new head (rows, width) for manifest rows.

        The rows are encoded as the task says.
        """
        return np.stack([feature for _, feature in self._of(rows, self.modality)])

    def _of(self, rows: pd.DataFrame, modality: Any) -> list[tuple[Floats, Floats]]:
        known = self._seen.setdefault(self.of_x.encoding.encoding(modality), {})
        new = rows[~rows["id"].isin(list(known))]
        if len(new):
            seen = _run(self._loaded, new, self.of_x, modality, self.compute, norms=False)
            known.update(
                zip(new["id"], zip(seen.embeddings, seen.features, strict=True), strict=True)
            )
        return [known[i] for i in rows["id"]]

    def bytes(self) -> int:
        """Return the size of the model's weights in bytes."""
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))


def see(
    folder: Path,
    samples: pd.DataFrame,
    of_x: Modality,
    of_y: Problem,
    modality: Any,
    compute: Compute,
) -> Seen:
    """Run the base model of a folder on samples, and watch its BatchNorm layers.

    The model is in evaluation mode; samples have x and, if it is stated, content.
    """
    base = _load(folder, of_x, of_y, modality.name, compute)
    return _run(base, samples, of_x, modality, compute, norms=True)


def _load(folder: Path, of_x: Modality, of_y: Problem, modality: str, compute: Compute) -> _Loaded:
    import torch

    on = device.set_up(compute)
    model, new = loading.load(of_y, folder, modality, ["0", "1"], new_head=True)
    try:
        layer = linear.head(model, new)
    except ModelError:
        layer = None
    model = model.eval().to(on, memory_format=getattr(torch, compute.memory_format))
    return _Loaded(model, layer, of_x.encoding.processor(folder))


def _run(
    base: _Loaded,
    samples: pd.DataFrame,
    of_x: Modality,
    modality: Any,
    compute: Compute,
    norms: bool,
) -> Seen:
    """Return what the model sees of samples.

    Without norms no BatchNorm layer is watched, and the run takes a quarter of the time.
    """
    import torch

    watched = [of for of in base.model.modules() if norms and isinstance(of, torch.nn.BatchNorm2d)]
    encoded = of_x.encoding.encode(samples, base.processor, modality)
    lengths, collate = of_x.encoding.lengths(encoded), of_x.encoding.collate(base.processor)
    rows, moments, features = ([np.empty(0)] * len(samples) for _ in range(3))
    size = min(compute.batch_size, WATCHED_AT_ONCE) if watched else compute.batch_size
    with (
        _watching(base, watched) as caught,
        torch.inference_mode(),
        progress.Progress("run the base model", len(samples)) as going,
    ):
        for batch, inputs in device.batches(encoded, lengths, collate, size):
            of_batch = _seen_of(base, caught, inputs, compute)
            for i, *of_row in zip(batch, *of_batch, strict=True):
                rows[i], moments[i], features[i] = of_row
            going.advance(len(batch))
    kept: list[Any] = [torch.stack([of.running_mean, of.running_var + of.eps]) for of in watched]  # pyright: ignore[reportArgumentType, reportOptionalOperand]
    means, squares = np.stack(moments).swapaxes(0, 1).astype(np.float32)
    return Seen(
        np.stack(rows).astype(np.float32),
        means,
        squares,
        torch.cat(kept, 1).cpu().numpy() if kept else np.empty((2, 0), np.float32),
        [of.shape[1] for of in kept],
        np.stack(features).astype(np.float32),
    )


@dataclass(frozen=True)
class _Caught:
    """What hooks catch of a batch.

    said is what the base model returns, given what reaches the head's layer, and moments are those
    of what reaches each BatchNorm layer.
    """

    said: list[Any]
    given: list[Any]
    moments: list[Any]


@contextmanager
def _watching(base: _Loaded, norms: list[Any]) -> Generator[_Caught]:
    caught = _Caught([], [], [None] * len(norms))
    hooks = [
        norm.register_forward_pre_hook(_keeper(caught.moments, i)) for i, norm in enumerate(norms)
    ]
    hooks.append(
        base.model.base_model.register_forward_hook(lambda _, __, said: caught.said.append(said))
    )
    if base.layer:
        hooks.append(
            base.layer.register_forward_pre_hook(lambda _, given: caught.given.append(given[0]))
        )
    try:
        yield caught
    finally:
        for hook in hooks:
            hook.remove()


def _seen_of(
    base: _Loaded, caught: _Caught, inputs: Inputs, compute: Compute
) -> list[NDArray[Any]]:
    """Return embeddings, moments (rows, 2, channels) and features of a batch."""
    import torch

    with device.arithmetic(compute):
        base.model(**inputs)
        hidden = _hidden(base.model, caught.said[0], inputs).float()
        embedded = _pooled(hidden, inputs.get("attention_mask"))
    features = caught.given[0].float() if base.layer else embedded
    caught.said.clear()
    caught.given.clear()
    moments = (
        torch.stack([torch.cat(of, 1) for of in zip(*caught.moments, strict=True)], 1)
        if caught.moments
        else embedded[:, None, :0].repeat(1, 2, 1)
    )
    return [of.cpu().numpy() for of in (embedded, moments, features)]


def _hidden(model: Any, said: Any, inputs: Inputs) -> Any:
    """Return what the last layer returned.

    A model that has no part without a head (CLIP) lists it among its hidden states.
    """
    return (
        said.last_hidden_state
        if "last_hidden_state" in said
        else model(**inputs, output_hidden_states=True).hidden_states[-1]
    )


def _keeper(reached: list[Any], i: int) -> Callable[[Any, Any], None]:
    def keep(_: Any, inputs: Any) -> None:
        reached[i] = _moments(inputs[0])

    return keep


def _moments(reached: Any) -> tuple[Any, Any]:
    """Return mean and mean square of each channel of (rows, channels, height, width)."""
    import torch

    # Squares would take as much memory again.
    variance, mean = torch.var_mean(reached.float(), (2, 3), correction=0)
    return mean, variance + mean**2


def _pooled(hidden: Any, mask: Any) -> Any:
    """Return the mean over tokens or over places.

    Tokens (rows, tokens, width) that are padding do not count; places are (rows, width, height,
    width).
    """
    if hidden.ndim == 4 or mask is None:
        return hidden.mean((2, 3) if hidden.ndim == 4 else 1)
    weight = mask[..., None].float()
    return (hidden * weight).sum(1) / weight.sum(1)


def divergence(seen: Seen, weights: Floats) -> NDArray[np.float64]:
    """Return the divergence of each BatchNorm layer, in nats, for each draw of the rows.

    weights are (draws, rows), and the weights of a draw add up to 1. The divergence is the
    Kullback-Leibler divergence of a Gaussian with the draw's mean and variance from one with those
    kept from pretraining, a channel at a time; a layer's is the mean over its channels.
    """
    mean, variance = seen.kept
    here = weights @ seen.means
    spread = np.maximum(weights @ seen.squares - here**2, 1e-12)
    of_channels = 0.5 * (
        np.log(variance / (spread + 1e-5)) + (spread + (here - mean) ** 2) / variance - 1
    )
    starts = np.cumsum([0, *seen.layers[:-1]])
    return np.add.reduceat(of_channels, starts, axis=1) / np.array(seen.layers)


def resampled(
    seen: Seen, sizes: tuple[int, ...], drawn: np.random.Generator
) -> dict[str, list[float]]:
    """Return how far draws of a reference's rows lie from the BatchNorm statistics of the base.

    Each size has a sorted list. Each draw is a draw of a draw: the reference is itself one of many
    that were possible.
    """
    rows = len(seen.embeddings)
    of_sizes = dict[str, list[float]]()
    for size in sizes:
        counts = np.stack(
            [
                drawn.multinomial(size, drawn.multinomial(rows, np.full(rows, 1 / rows)) / rows)
                for _ in range(RESAMPLES)
            ]
        )
        far = divergence(seen, (counts / size).astype(np.float32)).mean(1)
        of_sizes[str(size)] = [float(f"{value:.4g}") for value in np.sort(far)]
    return of_sizes
