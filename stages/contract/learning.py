"""Hold what a loop learns from: encoded rows, a loss, and how to measure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from stages.contract.history import Entry

Inputs = dict[str, Any]  # of a model, by name: one row's, or the tensors of a batch
# What a row of train has beside them: its target, and what an objective has put there for its loss.
LABELS, BESIDE = "labels", "beside"


class Encoded(Protocol):
    """Rows of a model's inputs, which may be read lazily; `take` asks for several."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Inputs: ...


def read(inputs: Inputs) -> Inputs:
    """Return what the model itself reads of a row or a batch."""
    return {name: value for name, value in inputs.items() if name not in (LABELS, BESIDE)}


def take(encoded: Encoded, places: Sequence[int]) -> list[Inputs]:
    """Return some rows, side by side if `encoded` has `__getitems__`, torch's name for it."""
    several = getattr(encoded, "__getitems__", None)
    return several(places) if several else [encoded[i] for i in places]


class Around:
    """Rows around encoded ones, which may be altered on the fly."""

    encoded: Encoded

    @property
    def anew(self) -> bool:
        """Whether rows are altered anew in each epoch."""
        return getattr(self.encoded, "anew", False)

    def set_epoch(self, epoch: int) -> None:
        """Alter rows anew, if they are altered on the fly."""
        getattr(self.encoded, "set_epoch", lambda _: None)(epoch)


def parted(batch: Sequence[Inputs], name: str) -> tuple[list[Inputs], list[Any]]:
    """Return rows without an input, and that input of those that have it."""
    rows = [{key: of for key, of in row.items() if key != name} for row in batch]
    return rows, [row[name] for row in batch if name in row]


@dataclass(frozen=True)
class Carrying(Around):
    """Encoded rows, each with one more input of this name."""

    encoded: Encoded
    name: str
    values: Sequence[Any]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, i: int) -> Inputs:
        return self.encoded[i] | {self.name: self.values[i]}

    def __getitems__(self, places: Sequence[int]) -> list[Inputs]:
        return [
            row | {self.name: self.values[i]}
            for i, row in zip(places, take(self.encoded, places), strict=True)
        ]


@dataclass(frozen=True)
class Rows(Around):
    """Encoded rows, their targets, and their lengths, by which similar rows are batched.

    Rows may be read or altered lazily, when they are asked for.
    """

    encoded: Encoded
    targets: Sequence[Any]
    lengths: list[int]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> Inputs:
        return self.encoded[i] | {LABELS: self.targets[i]}

    def __getitems__(self, places: Sequence[int]) -> list[Inputs]:
        return [
            row | {LABELS: self.targets[i]}
            for i, row in zip(places, take(self.encoded, places), strict=True)
        ]


def carry(
    learning: "Learning", values: Sequence[Any], together: Callable[[list[Any]], Any]
) -> "Learning":
    """Return what to learn from, with a value for each train row BESIDE what the model reads.

    together makes what a batch has there of the values of its rows.
    """
    rows, collate = learning.train, learning.collate

    def both(batch: list[Inputs]) -> Inputs:
        own, beside = parted(batch, BESIDE)
        return collate(own) | ({BESIDE: together(beside)} if beside else {})

    train = replace(rows, encoded=Carrying(rows.encoded, BESIDE, values))
    return replace(learning, train=train, collate=both)


class Loss(Protocol):
    """What is minimised."""

    def __call__(
        self, model: Any, inputs: Inputs, targets: Any, items: Any = None, /
    ) -> tuple[Any, Any]:
        """Return the mean loss of a batch, a scalar tensor, and the model's outputs.

        inputs has what an objective has put BESIDE what the model reads, on train rows alone.
        targets are those of the batch, on its device. If gradients are accumulated, items is the
        number of rows of all the accumulated batches, by which the sum is divided. Where torch
        takes no gradient, as on validation, it is the loss of the rows as they are, and model may
        be any function of inputs that returns outputs with logits.
        """
        ...


@dataclass(frozen=True)
class Learning:
    """What a loop learns from: encoded rows with `labels`, and how to batch, minimise and measure.

    measure takes logits and targets of the same rows in any order: a loop may batch validation by
    length. Without train rows there is nothing to learn. require takes the same, after the first
    epoch's worth of steps, and raises ModelError if they were in vain. head names the modules that
    are new and have a learning rate of their own. begun is what validation says of the model as it
    begins (epoch 0), or None if it begins at random. metric is the one of measure's metrics that
    decides if finetune names none. less names the metrics for which less is better. rates has
    shares of the learning rate by the names of parameters, for those that learn more slowly. passes
    is how many times a row goes through the model in a step, for the memory that this takes.
    """

    train: Rows
    validation: Rows
    collate: Callable[[list[Inputs]], Inputs]
    loss: Loss
    measure: Callable[[Any, Any], dict[str, float]]
    require: Callable[[Any, Any], None] = lambda *_: None
    head: frozenset[str] = frozenset()
    begun: Entry | None = None
    metric: str = "loss"
    less: frozenset[str] = frozenset()
    rates: Mapping[str, float] = field(default_factory=dict[str, float])
    passes: int = 1
