"""Let the head learn first, and then one layer after another, from the top.

The lower a layer, the smaller its steps. This is gradual unfreezing with discriminative learning
rates (Howard & Ruder 2018, ULMFiT).
"""

from dataclasses import dataclass, replace
from typing import Any

from stages.contract.errors import ModelError
from stages.contract.learning import Learning, Rows
from stages.contract.protocols import Start
from stages.methods import layers
from stages.params.finetune import Gradual


@dataclass(frozen=True)
class _Unfreezing(Rows):
    """Train rows that let a model's parameters learn when their epoch begins."""

    beginning: tuple[tuple[Any, int], ...] = ()
    """each parameter, and the epoch in which it begins to learn"""

    def set_epoch(self, epoch: int) -> None:
        """Let the parameters learn whose time has come; alter rows anew if that is asked for."""
        for parameter, first in self.beginning:
            parameter.requires_grad_(first <= epoch)
        super().set_epoch(epoch)


def prepare(start: Start, learning: Learning, settings: Gradual) -> tuple[Any, Learning]:
    """Give each parameter the epoch in which it begins to learn, and its share of the rate.

    What is new and what is above the layers learns from the first epoch on; every so many epochs
    the next layer follows, and at last what is below them all.
    """
    model = start.model.requires_grad_(True)
    name, found = layers.stack(model)
    if len(found) < 2:
        raise ModelError("finetune.tune: the base model has no layers that could learn by turns")
    depths = _depths(model, name, len(found), start.new)
    rates = {name: settings.decay**depth for name, depth in depths.items()}
    rows = learning.train
    beginning = tuple(
        (parameter, depths[name] * settings.epochs_a_layer)
        for name, parameter in model.named_parameters()
    )
    train = _Unfreezing(rows.encoded, rows.targets, rows.lengths, beginning)
    return model, replace(learning, train=train, rates=rates)


def _depths(model: Any, stack: str, layers: int, new: frozenset[str]) -> dict[str, int]:
    """Return how deep each parameter is: 0 above the layers, 1 in the top one, most below all."""
    depths, above = dict[str, int](), False
    for name, _ in model.named_parameters():
        if name.startswith(f"{stack}."):
            above = True
            depths[name] = layers - int(name.removeprefix(f"{stack}.").partition(".")[0])
        else:
            depths[name] = 0 if above or name in new else layers + 1
    return depths


def finish(learner: Any) -> Any:
    """Return the model unchanged."""
    return learner
