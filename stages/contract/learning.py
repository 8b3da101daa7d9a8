"""Hold what a loop learns from, and compare the epochs of what it did."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Encoded(Protocol):
    """Rows of a model's inputs, which may be read lazily; `take` asks for several."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> dict[str, Any]: ...


def take(encoded: Encoded, places: Sequence[int]) -> list[dict[str, Any]]:
    """Return some rows, side by side if `encoded` has `__getitems__`, torch's name for it."""
    several = getattr(encoded, "__getitems__", None)
    return several(places) if several else [encoded[i] for i in places]


@dataclass(frozen=True)
class Rows:
    """Encoded rows, their targets, and their lengths, by which similar rows are batched.

    Rows may be read or altered lazily, when they are asked for.
    """

    encoded: Encoded
    targets: Sequence[Any]
    lengths: list[int]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return self.encoded[i] | {"labels": self.targets[i]}

    def __getitems__(self, places: Sequence[int]) -> list[dict[str, Any]]:
        return [
            row | {"labels": self.targets[i]}
            for i, row in zip(places, take(self.encoded, places), strict=True)
        ]

    @property
    def anew(self) -> bool:
        """Whether rows are altered anew in each epoch."""
        return getattr(self.encoded, "anew", False)

    def set_epoch(self, epoch: int) -> None:
        """Alter rows anew, if they are altered on the fly."""
        getattr(self.encoded, "set_epoch", lambda _: None)(epoch)


@dataclass(frozen=True)
class Learning:
    """What a loop learns from: encoded rows with `labels`, and how to batch, minimise and measure.

    measure takes logits and targets of the same rows in any order: a loop may batch validation by
    length. Without train rows there is nothing to learn. require takes the same, after the first
    epoch's worth of steps, and raises ModelError if they were in vain. head names the modules that
    are new and have a learning rate of their own. begun is what validation says of the model as it
    begins (epoch 0), or None if it begins at random. metric is the one of measure's metrics that
    decides if finetune names none. less names the metrics for which less is better.
    """

    train: Rows
    validation: Rows
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]
    loss: Callable[..., Any]
    measure: Callable[[Any, Any], dict[str, float]]
    require: Callable[[Any, Any], None] = lambda *_: None
    head: frozenset[str] = frozenset()
    begun: dict[str, float] | None = None
    metric: str = "loss"
    less: frozenset[str] = frozenset()


def merit(epoch: dict[str, float], metric: str, less: frozenset[str]) -> float:
    """Return the number by which epochs are compared; greater is better.

    It is the validation metric minus a millionth of the loss: on few validation rows the metric
    ties early, and the loss still tells a better epoch from a worse one. The metric may be the loss
    itself; `last` prefers the later epoch. less names the metrics for which less is better.
    """
    if metric == "last":
        return epoch["epoch"]
    if metric == "loss":
        return -epoch["eval_loss"]
    return epoch[f"eval_{metric}"] * (-1 if metric in less else 1) - 1e-6 * epoch["eval_loss"]


def kept(
    history: list[dict[str, float]], metric: str, otherwise: str, less: frozenset[str] = frozenset()
) -> dict[str, float]:
    """Return the epoch of a history that is kept: the one of most merit, the earliest on a tie.

    Epoch 0 is kept if validation likes no other better. `last` is not a metric: `otherwise` decides
    whether validation likes the last epoch better than epoch 0.
    """
    epochs = [entry for entry in history if "eval_loss" in entry]
    best = max(epochs, key=lambda epoch: merit(epoch, metric, less))
    judge = otherwise if metric == "last" else metric
    return (
        epochs[0]
        if epochs[0]["epoch"] == 0 and merit(best, judge, less) <= merit(epochs[0], judge, less)
        else best
    )
