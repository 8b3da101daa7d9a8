"""Only the new head learns, on the features that the base model gives as it is: they are worked out once."""

from dataclasses import replace
from typing import Any

from stages import device
from stages.contract.params import LinearProbe
from stages.contract.plugins import Learning, Rows
from stages.methods import batchnorm

BATCH = 32  # rows whose features are worked out at once, of the longest


def prepare(model: Any, new: frozenset[str], learning: Learning, _: LinearProbe) -> tuple[Any, Learning]:
    """Return the head, and the features that reach it as what it learns from; dropout before the head is left out.

    Where more than one module is new, there is no one place where features arrive: then the base model is frozen, in
    evaluation mode, and runs at each step.
    """
    import torch
    from transformers.modeling_outputs import SequenceClassifierOutput

    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in new)
    heads = {name.rpartition(".")[0] for name in new}
    if len(heads) > 1:
        batchnorm.hold(model.base_model)
        return model, learning
    head = model.get_submodule(heads.pop())

    class Probe(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.whole = head, lambda: model  # a function, so that the base model is no part of what is saved

        def forward(self, features: Any, labels: Any = None) -> Any:  # noqa: ARG002  (Trainer looks for it)
            return SequenceClassifierOutput(logits=self.head(features))

    parts = {"train": learning.train, "validation": learning.validation}
    rows = {name: Rows(_features(model, head, of, learning), of.targets, [1] * len(of)) for name, of in parts.items()}
    return Probe(), replace(learning, **rows, collate=_collate)


def _features(model: Any, head: Any, rows: Rows, learning: Learning) -> list[dict[str, Any]]:
    """Return what reaches the head for each row, as float32 on the CPU."""
    import torch

    model.to(device.find()).eval()
    reached: list[Any] = []
    features: list[Any] = [None] * len(rows)
    caught = head.register_forward_pre_hook(lambda _module, inputs: reached.append(inputs[0].detach().float().cpu()))
    with torch.no_grad():
        for batch, inputs in device.batches(rows.encoded, rows.lengths, learning.collate, BATCH):
            model(**inputs)
            for i, row in zip(batch, reached.pop(), strict=True):
                features[i] = row
    caught.remove()
    return [{"features": row.clone()} for row in features]


def _collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    import torch

    return {"features": torch.stack([row["features"] for row in rows]), "labels": torch.tensor([row["labels"] for row in rows])}


def finish(learner: Any) -> Any:
    """Return the whole model, its head as it was learned."""
    return learner.whole() if hasattr(learner, "whole") else learner
