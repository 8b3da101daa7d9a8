"""Check before training whether a step fits into memory.

Otherwise the training might be killed an hour later.
"""

from typing import Any

from stages.contract.errors import ModelError
from stages.contract.learning import Inputs, Learning, read
from stages.models import device
from stages.params.compute import Compute

GIB = 2**30


def require(model: Any, learning: Learning, batch_size: int, compute: Compute, kept: int) -> None:
    """Raise ModelError if a step of batch_size of the longest rows needs more memory than is free.

    The error names the batch that fits. A step needs at least what autograd keeps for the backward
    pass, counted on one row and one pass, and for each weight that learns its gradient and so many
    numbers that are kept.
    """
    longest = max(range(len(learning.train)), key=learning.train.lengths.__getitem__)
    inputs = learning.collate([learning.train[longest]])
    row = learning.passes * _kept_bytes(model, read(inputs), compute)
    fixed = (1 + kept) * sum(
        value.numel() * value.element_size() for value in model.parameters() if value.requires_grad
    )
    free = device.free_memory()
    if fixed + batch_size * row > free:
        raise _too_large(batch_size, row, fixed, free)


def _too_large(batch_size: int, row: int, fixed: int, free: int) -> ModelError:
    """Return the error for a step that takes more bytes than are free."""
    fits = max(0, (free - fixed) // row)
    advice = (
        f"at most {fits:,} rows fit"
        if fits
        else "not one row fits: take a smaller base model, shorter rows, or let fewer layers learn"
    )
    needs = (
        f"takes {(fixed + batch_size * row) / GIB:.1f} GiB or more, and {free / GIB:.1f} GiB are "
        "free"
    )
    return ModelError(f"finetune.batch_size: a step of {batch_size:,} rows {needs}; {advice}")


def _kept_bytes(model: Any, inputs: Inputs, compute: Compute) -> int:
    """Return the bytes that a forward pass of a model keeps for the backward pass.

    The model is on its device; its mode and random state are left as they were.
    """
    import torch

    own = {value.untyped_storage().data_ptr() for value in model.parameters()}
    kept = dict[int, int]()

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    training = model.training
    model.eval()
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        device.arithmetic(compute),
    ):
        model(**{name: tensor.to(device.find()) for name, tensor in inputs.items()})
    model.train(training)
    return sum(kept.values())
