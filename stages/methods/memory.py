"""Says before training whether a step of so many rows fits into memory, so that nothing is killed an hour later."""

from typing import Any

from stages.contract.errors import ModelError
from stages.contract.plugins import Learning
from stages.models import device
from stages.params.compute import Compute

GIB = 2**30
OPTIMISER = 2  # numbers that AdamW keeps for each that learns, beside its gradient


def require(model: Any, learning: Learning, batch_size: int, compute: Compute) -> None:
    """Raise ModelError if a step of batch_size of the longest rows needs more memory than is free; it names the batch that fits.

    What a step needs is at least what autograd keeps for the backward pass, counted on one row, and gradients and optimiser.
    """
    longest = max(range(len(learning.train)), key=learning.train.lengths.__getitem__)
    inputs = learning.collate([learning.train[longest]])
    row = _kept_bytes(model, {name: of for name, of in inputs.items() if name != "labels"}, compute)
    fixed = (1 + OPTIMISER) * sum(
        of.numel() * of.element_size() for of in model.parameters() if of.requires_grad
    )
    free = device.free_memory()
    if fixed + batch_size * row <= free:
        return
    fits = max(0, (free - fixed) // row)
    advice = (
        f"at most {fits:,} rows fit"
        if fits
        else "not one row fits: take a smaller base model, shorter rows, or let fewer layers learn"
    )
    needs = f"takes {(fixed + batch_size * row) / GIB:.1f} GiB or more, and {free / GIB:.1f} GiB are free"
    raise ModelError(f"finetune.batch_size: a step of {batch_size:,} rows {needs}; {advice}")


def _kept_bytes(model: Any, inputs: dict[str, Any], compute: Compute) -> int:
    """Return the bytes that a forward pass of a model on its device keeps for the backward pass; the model's mode and random state are left as they were."""
    import torch

    own = {of.untyped_storage().data_ptr() for of in model.parameters()}
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
