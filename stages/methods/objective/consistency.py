"""Minimise the loss of rows, and how much what the model says of them changes.

Each row goes through the model twice with two draws of dropout (R-Drop, Liang et al. 2021), or its
altered copy goes with it (Xie et al. 2020, UDA, on labelled rows).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from stages.contract import learning as contract
from stages.contract.errors import ModelError
from stages.contract.learning import BESIDE, Carrying, Inputs, Learning, parted, read
from stages.contract.protocols import Start
from stages.methods import losses
from stages.params.finetune import Consistency


@dataclass(frozen=True)
class Loss:
    """The loss of the rows, and weight times the distance of two outputs."""

    plain: contract.Loss
    of: Callable[[Any, Any, Any], Any]
    one_label: bool
    weight: float

    def __call__(
        self, model: Any, inputs: Inputs, targets: Any, items: Any = None, /
    ) -> tuple[Any, Any]:
        """Return the mean loss of a batch, and the model's outputs in the first pass.

        Validation, which takes no gradient, has neither dropout nor copies and is one pass.
        """
        import torch

        loss, outputs = self.plain(model, inputs, targets, items)
        if not torch.is_grad_enabled():
            return loss, outputs
        first = outputs.logits
        if BESIDE in inputs:
            pairs = inputs[BESIDE]
            first, second = first[pairs[:, 0]], first[pairs[:, 1]]
        else:
            second = model(**read(inputs)).logits
            loss = (loss + self.of(second, targets, items)) / 2
        apart = self._distance(first.float(), second.float())
        return loss + self.weight * apart / (len(targets) if items is None else items), outputs

    def _distance(self, first: Any, second: Any) -> Any:
        """Return the sum over rows of the distance of two outputs (rows, outputs).

        It is the mean of both Kullback-Leibler divergences of labels that exclude each other, else
        the squared difference.
        """
        if not self.one_label:
            return (first - second).square().mean(1).sum()
        first, second = first.log_softmax(-1), second.log_softmax(-1)
        return ((first.exp() - second.exp()) * (first - second)).sum() / 2


def prepare(start: Start, learning: Learning, settings: Consistency) -> Learning:
    """Return what to learn from, with the loss.

    Raises ModelError if nothing could differ: the model has no dropout, or no row has a copy.
    """
    of_one = losses.one_label(start.model.config)
    loss = Loss(learning.loss, losses.of_problem(start.model.config), of_one, settings.weight)
    learning = replace(learning, loss=loss, passes=2)
    if settings.of == "copies":
        return _with_copies(start, learning)
    import torch

    rates = [layer.p for layer in start.model.modules() if isinstance(layer, torch.nn.Dropout)]
    if not any(rates):
        raise ModelError(
            "finetune.objective: the base model has no dropout, so both passes are the same; set "
            "finetune.dropout, or say of: copies, standard or cross_entropy"
        )
    return learning


def _with_copies(start: Start, learning: Learning) -> Learning:
    """Let an original bring its first altered copy into its batch, in which both are paired."""
    import torch

    rows, collate, copies = learning.train, learning.collate, _copies(start.samples)
    if all(copy is None for copy in copies):
        raise ModelError(
            "finetune.objective: no train row has an altered copy to compare it with; raise "
            "augment.share, set augment.on_the_fly to false, or say of: dropout"
        )

    def together(batch: list[Inputs]) -> Inputs:
        own, places = parted(batch, BESIDE)
        paired = [i for i, place in enumerate(places) if place is not None]
        brought = [rows[places[i]] for i in paired]
        pairs = [(i, len(own) + j) for j, i in enumerate(paired)]
        beside = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
        return collate(own + brought) | ({BESIDE: beside} if places else {})

    train = replace(rows, encoded=Carrying(rows.encoded, BESIDE, copies))
    return replace(learning, train=train, collate=together)


def _copies(samples: pd.DataFrame) -> list[int | None]:
    """Return the place of each original's first copy; None if it has none, and for copies."""
    copied = (samples["id"] != samples["source_id"]).to_numpy()
    first = dict[str, int]()
    for place in copied.nonzero()[0].tolist():
        first.setdefault(samples["source_id"].iloc[place], place)
    return [
        None if is_copy else first.get(name)
        for name, is_copy in zip(samples["id"], copied, strict=True)
    ]
