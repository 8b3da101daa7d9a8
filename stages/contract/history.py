"""What a training logged, and which epoch of it is kept: history.json, written and read here."""

from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from stages.contract import receipts


@dataclass(frozen=True)
class Entry:
    """What was measured at a step: of the training since the last entry, or of validation."""

    epoch: float
    step: int
    training: dict[str, float]
    """loss, grad_norm and learning_rate; empty if it is of validation"""
    validation: dict[str, float]
    """loss and the problem's metrics; empty if it is of the training"""


@dataclass(frozen=True)
class History:
    """All entries of a training, and the epoch whose weights are kept (0: as it began)."""

    entries: list[Entry]
    kept: float

    @property
    def epochs(self) -> list[Entry]:
        """The entries of validation, one an epoch."""
        return validated(self.entries)

    def write(self, path: Path) -> None:
        """Write history.json."""
        receipts.write_json(path, asdict(self))


def read(path: Path) -> History:
    """Read history.json."""
    return TypeAdapter(History).validate_json(path.read_bytes())


def validated(entries: list[Entry]) -> list[Entry]:
    """Return the entries of validation, one an epoch."""
    return [entry for entry in entries if entry.validation]


def merit(epoch: Entry, metric: str, less: frozenset[str]) -> float:
    """Return the number by which epochs are compared; greater is better.

    It is the validation metric minus a millionth of the loss: on few validation rows the metric
    ties early, and the loss still tells a better epoch from a worse one. The metric may be the loss
    itself; `last` prefers the later epoch. less names the metrics for which less is better.
    """
    if metric == "last":
        return epoch.epoch
    loss = epoch.validation["loss"]
    if metric == "loss":
        return -loss
    return epoch.validation[metric] * (-1 if metric in less else 1) - 1e-6 * loss


def kept(
    entries: list[Entry], metric: str, otherwise: str, less: frozenset[str] = frozenset()
) -> Entry:
    """Return the epoch that is kept: the one of most merit, the earliest on a tie.

    Epoch 0 is kept if no other does better on validation. `last` is not a metric: `otherwise`
    decides whether the last epoch does better than epoch 0.
    """
    epochs = validated(entries)
    best = max(epochs, key=lambda epoch: merit(epoch, metric, less))
    judge = otherwise if metric == "last" else metric
    begun = epochs[0].epoch == 0 and merit(best, judge, less) <= merit(epochs[0], judge, less)
    return epochs[0] if begun else best
