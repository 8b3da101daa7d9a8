"""Define what each kind of plug-in must offer; modality.py and problem.py define two of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stages.contract.history import Entry
from stages.contract.learning import Inputs, Learning
from stages.contract.modality import Modality
from stages.contract.problem import Problem
from stages.params.types import Encoding

if TYPE_CHECKING:
    import pandas as pd


class Source(Protocol):
    """Where raw data comes from."""

    def fetch(self, origin: Any, into: Path, temporary: Path) -> dict[str, str]:
        """Write the files below `into`; return facts for source.json (version, address, sha256)."""
        ...


class Format(Protocol):
    """What the files of a source are."""

    def convert(self, folder: Path, settings: Any, /) -> None:
        """Turn what the source brought into files that Refit reads, in place.

        The folder contains nothing else.
        """
        ...


class Layout(Protocol):
    """How samples lie in a data set."""

    def read(self, source: Path, layout: Any, encoding: Encoding, of_x: Modality) -> "pd.DataFrame":
        """Return a row for each sample: x, y (as written), given_part, origin, meta, code, reason.

        meta is JSON. code and reason are null if the row is good; origin says where the row is, for
        every message.
        """
        ...


@dataclass(frozen=True)
class Start:
    """What a training begins with: a base model with a head for the labels of a task.

    new names the parameters that the base model has no weights for. labels are in the order of the
    outputs. settings are the modality's, with which processor encodes x. samples are the train rows
    of the manifest, in the order of Learning.train. raw returns the folder of a source, which is
    verified, and its sha256.
    """

    of_x: Modality
    of_y: Problem
    model: Any
    new: frozenset[str]
    processor: Any
    labels: list[str]
    settings: Any
    compute: Any
    samples: "pd.DataFrame"
    raw: Callable[[str], tuple[Path, str]]


class Tune(Protocol):
    """Chooses what learns."""

    def prepare(self, start: Start, learning: Learning, settings: Any, /) -> tuple[Any, Learning]:
        """Return what learns (the model itself, one around it, or its head), and what from.

        Parameters named in start.new always learn.
        """
        ...

    def finish(self, learner: Any, /) -> Any:
        """Return the whole model, to be saved, from what learned."""
        ...


class Objective(Protocol):
    """What is minimised."""

    def prepare(self, start: Start, learning: Learning, settings: Any, /) -> Learning:
        """Return what to learn from, with the loss.

        learning has the problem's own loss. What else the loss needs of a train row travels in its
        inputs BESIDE what the model reads.
        """
        ...


class Loop(Protocol):
    """Takes the steps."""

    def fit(
        self, learner: Any, learning: Learning, finetune: Any, compute: Any, work: Path
    ) -> list[Entry]:
        """Train in place, leave the best epoch's weights in the learner, and return the log.

        work outlives a kill: if a run that was the same in everything left checkpoints there,
        training goes on from them. work is removed when the model is published.
        """
        ...


@dataclass(frozen=True)
class Finished:
    """A trained model: the folder that finetune wrote, and what it is loaded for.

    The folder has safetensors, a configuration and a processor. batches returns about so many
    validation rows as the model's inputs: the shortest row alone, the longest alone, and others
    together.
    """

    folder: Path
    of_y: Problem
    modality: str
    labels: list[str]
    batches: Callable[[int], list[Inputs]]


class Export(Protocol):
    """The form in which a model leaves.

    GRADIENTS says whether what load returns is a module of torch that gradients pass through, which
    maps of where it looked are drawn by.
    """

    GRADIENTS: bool

    def write(self, finished: Finished, into: Path, settings: Any, /) -> None:
        """Write the form of a trained model into a new folder.

        Raises ModelError if the model has no such form, or if it would predict something else.
        """
        ...

    def load(
        self, of_y: Problem, folder: Path, modality: str, labels: list[str], compute: Any
    ) -> Callable[..., Any]:
        """Return what computes a batch on its device: tensors by name -> outputs with logits.

        The bytes in folder are verified already.
        """
        ...
