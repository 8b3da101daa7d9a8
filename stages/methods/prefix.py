"""Compute once what the frozen layers of a model return for each row.

That is possible if rows stay the same from epoch to epoch.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from stages.contract.learning import Carrying, Inputs, Learning, Rows, parted, read, take
from stages.methods import batchnorm
from stages.models import device

ROOM = 2**30  # bytes of what is kept
BATCH = 32  # rows that go through the model at a time, of the longest
COMPARED = 8  # rows whose logits must be the same in both ways
# Of the greatest logit: bfloat16 rounds, and a layer that is fed wrongly differs by far more.
CLOSE = 0.02


def hold(model: Any) -> None:
    """Keep each module whose parameters are all frozen in evaluation mode.

    Its dropout is off, and its statistics are those of pretraining.
    """
    for module in model.modules():
        if (held := list(module.parameters())) and not any(value.requires_grad for value in held):
            batchnorm.hold(module)


def cut(model: Any, layers: Any, lowest: int, learning: Learning) -> tuple[Any, Learning]:
    """Return what learns from layers[lowest] upwards, and rows that carry what reaches that layer.

    Model and rows come back as they are if rows are altered anew in each epoch, if what reaches the
    layer takes more than ROOM, if the layer is not given the very output of the one below, or if
    the model returns something else when it is fed in this way (it has a way around the layers
    below).
    """
    import torch

    if not 0 < lowest < len(layers) or learning.train.anew:
        return model, learning
    model.to(device.find()).eval()
    with torch.no_grad():
        carrying = _carrying(model, layers[lowest - 1], layers[lowest], learning)
        if carrying is None:
            return model, learning
        as_it_is = _logits(model, learning)
        above = _above(model, layers, lowest)
        same = torch.allclose(
            as_it_is, _logits(above, carrying), rtol=0, atol=CLOSE * float(as_it_is.abs().max())
        )
    return (above, carrying) if same else (above.whole(), learning)


def _carrying(model: Any, below: Any, layer: Any, learning: Learning) -> Learning | None:
    """Return rows that carry what a layer is given, or None where _reached does."""
    fed = dict[str, Rows]()
    for name, rows in (("train", learning.train), ("validation", learning.validation)):
        reached = _reached(model, below, layer, rows, learning.collate)
        if reached is None:
            return None
        fed[name] = Rows(Carrying(rows.encoded, "reached", reached), rows.targets, rows.lengths)
    return replace(learning, **fed, collate=_collate(learning.collate))


def _reached(
    model: Any, below: Any, layer: Any, rows: Rows, collate: Callable[..., Any]
) -> list[Any] | None:
    """Return what a layer is given for each row, without padding, on the CPU.

    Returns None if it is not what the layer below returned, or if it takes more than ROOM.
    """
    kept, room = list[Any]([None]) * len(rows), ROOM
    with _between(below, layer) as (returned, caught):
        for batch, inputs in device.batches(rows.encoded, rows.lengths, collate, BATCH):
            model(**inputs)
            (output,), (arguments,), mask = returned, caught, inputs.get("attention_mask")
            if (
                not arguments
                or arguments[0] is not output
                or (mask is not None and output.shape[:2] != mask.shape)
            ):
                return None
            for i, row in enumerate(batch):
                kept[row] = (output[i] if mask is None else output[i][mask[i].bool()]).clone().cpu()
                room -= kept[row].nbytes
            if room < 0:
                return None
            returned.clear()
            caught.clear()
    return kept


@contextmanager
def _between(below: Any, layer: Any) -> Generator[tuple[list[Any], list[Any]]]:
    """Note what a layer returns, and the arguments that the layer above it is given."""
    returned, caught = list[Any](), list[Any]()
    hooks = [
        below.register_forward_hook(lambda _, __, output: returned.append(output)),
        layer.register_forward_pre_hook(lambda _, given: caught.append(given)),
    ]
    try:
        yield returned, caught
    finally:
        for hook in hooks:
            hook.remove()


def _collate(collate: Callable[..., Any]) -> Callable[[list[Inputs]], Inputs]:
    """Return a function that batches carrying rows.

    What reaches the layer is padded with zeros, at which attention does not look.
    """
    import torch

    def together(rows: list[Inputs]) -> Inputs:
        own, reached = parted(rows, "reached")
        given = collate(own)
        mask = given.get("attention_mask")
        if mask is None:
            return given | {"reached": torch.stack(reached)}
        padded = reached[0].new_zeros(*mask.shape, reached[0].shape[-1])
        padded[mask.bool()] = torch.cat(reached)
        return given | {"reached": padded}

    return together


def _logits(model: Any, learning: Learning) -> Any:
    first = take(learning.train.encoded, range(min(COMPARED, len(learning.train))))
    inputs = read(learning.collate(first))
    return model(**{name: value.to(device.find()) for name, value in inputs.items()}).logits.float()


def _above(model: Any, layers: Any, lowest: int) -> Any:
    """Return a module that feeds a model's lowest layer that learns, and computes the model.

    The layers below that one pass on what they are given.
    """
    import torch

    class Above(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.fed = model, None
            self.feeding = layers[lowest].register_forward_pre_hook(
                lambda _, given: (self.fed, *given[1:])
            )
            for layer in layers[:lowest]:
                layer.forward = _pass_on

        def forward(self, reached: Any, labels: Any = None, **inputs: Any) -> Any:  # noqa: ARG002  (Trainer looks for it)
            self.fed = reached
            return self.model(**inputs)

        def whole(self) -> Any:
            self.feeding.remove()
            for layer in layers[:lowest]:
                del layer.forward
            return self.model

    return Above()


def _pass_on(given: Any, *_: Any, **__: Any) -> Any:
    return given
