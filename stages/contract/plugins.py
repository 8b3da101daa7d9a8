"""Find a plug-in by its name in params.yaml, and define what each kind of plug-in must offer.

A plug-in is a module: stages/KIND/NAME.py; a modality is a folder of modules. There is no registry
and no decorator to keep in step with it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, get_type_hints

from pydantic import TypeAdapter

from stages.contract.metrics import Metric
from stages.params.task import Task
from stages.params.types import Encoding

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, Any]


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

    def read(
        self, source: Path, layout: Any, encoding: Encoding, of_x: "Modality"
    ) -> "pd.DataFrame":
        """Return a row for each sample: x, y (as written), given_part, origin, meta, code, reason.

        meta is JSON. code and reason are null if the row is good; origin says where the row is, for
        every message.
        """
        ...


class Reading(Protocol):
    """Reads x.

    Settings are the section `modality` of a task, or of the model that was trained with it.
    """

    def read(self, files: "pd.Series[Any]", encoding: Encoding) -> "pd.DataFrame":
        """Return x, code and reason (same index) of files that contain one sample each.

        encoding is the encoding of text.
        """
        ...

    def cite(self, cells: "pd.Series[str]", folder: Path, source: Path) -> "pd.DataFrame":
        """Return x, code and reason (same index) for the cells of a table.

        folder is the table's folder, below source.
        """
        ...

    def look(self, x: "pd.Series[str]", settings: Any) -> "pd.DataFrame":
        """Look at each x once, and return what it is and numbers about it (same index).

        code and reason are null if x is fit; exact tells one sample from another; normal is equal
        for exact duplicates; note, null for most, says what a person should know about x; every
        column of numbers is a feature on which expectations are stated.
        """
        ...

    def alike(self, looked: "pd.DataFrame") -> "pd.Series[Any]":
        """Return a key (same index) that is equal for exact and for confirmed near duplicates.

        looked is what `look` returned.
        """
        ...

    def expectations(self, settings: Any) -> list[dict[str, Any]]:
        """Return expectations on the features: each a Great Expectations type and its kwargs."""
        ...

    def traits(self, x: "pd.Series[str]", looked: "pd.DataFrame", base: Path) -> "pd.DataFrame":
        """Return a column (same index) for each trait that tells one domain from another.

        A column contains numbers or words; base is the base model's folder.
        """
        ...

    def suggest(self, x: "pd.Series[str]", looked: "pd.DataFrame", /) -> dict[str, Any]:
        """Return the settings of the modality that suit good samples, for `refit add` to write.

        looked is what `look` returned for them.
        """
        ...


class Altering(Protocol):
    """Alters x."""

    def faults(self, transforms: Any) -> list[str]:
        """Return what is wrong with transforms: a line for each fault, its place first."""
        ...

    def alter(
        self, samples: "pd.DataFrame", augment: Any, settings: Any, files: Path, below: str
    ) -> "pd.DataFrame":
        """Return altered copies of samples (manifest columns) that are fit to learn from.

        Files go into the folder `files`, which later has the name `below`, relative to data/.
        """
        ...


class Encoder(Protocol):
    """Turns x into a model's inputs."""

    def processor(self, folder: Path) -> Any:
        """Load what turns x into tensors, from a model's folder."""
        ...

    def encode(self, samples: "pd.DataFrame", processor: Any, settings: Any) -> "Encoded":
        """Return the model's inputs for each sample, not padded.

        x must have the `content` that the sample states, if it states one.
        """
        ...

    def encode_anew(
        self, samples: "pd.DataFrame", processor: Any, settings: Any, augment: Any
    ) -> "Encoded":
        """Return the inputs of train rows, which are altered anew in each epoch if augment says so.

        In that case the result has `anew`, which is true, and set_epoch(epoch).
        """
        ...

    def encode_altered(
        self, samples: "pd.DataFrame", processor: Any, settings: Any, transform: Any, seed: int
    ) -> "Encoded":
        """Return what encode returns, for samples that one transform alters.

        A draw depends on (seed, id) and on nothing else.
        """
        ...

    def largest(self, processor: Any, settings: Any, rows: int) -> "Encoded":
        """Return made-up rows of the model's inputs, with which a base model is tried.

        The first is as large as the settings allow, and the last is as small as any.
        """
        ...

    def within(self, settings: Any, passes: Callable[[Any], bool]) -> Any:
        """Return settings near these for which `passes` is true, or None if there are none.

        It is true if the base model reads inputs of their size.
        """
        ...

    def stated(self, processor: Any, settings: Any) -> Any:
        """Return a processor to save with a model that was trained with these settings.

        Outside Refit it prepares x as Refit did.
        """
        ...

    def encoding(self, settings: Any) -> tuple[Any, ...]:
        """Return the settings that encode depends on.

        They are equal for settings that give the model equal inputs.
        """
        ...

    def lengths(self, encoded: "Encoded") -> list[int]:
        """Return a length for each row, by which similar rows are batched.

        The lengths are equal if all rows are.
        """
        ...

    def views(self, inputs: dict[str, Any], settings: Any) -> list[dict[str, Any]]:
        """Return a batch for each of the views whose logits are averaged."""
        ...

    def collate(self, processor: Any) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
        """Return a function that makes a padded batch of tensors from encoded rows."""
        ...


class Showing(Protocol):
    """Shows x to a person."""

    def show(self, samples: "pd.DataFrame", settings: Any) -> list[Any]:
        """Return what to show a person of each sample.

        It is a text, or a small picture (JPEG) of what the model sees.
        """
        ...

    def preview(
        self, originals: "pd.DataFrame", copies: "pd.DataFrame", files: Path, below: str, into: Path
    ) -> None:
        """Write into a folder, for a person to look at, originals beside their copies.

        Both have the manifest's columns and the same index.
        """
        ...


class Saliency(Protocol):
    """Shows which parts of x a model goes by."""

    def explain(
        self, scorer: Any, samples: "pd.DataFrame", predicted: "pd.Series[str]"
    ) -> list[bytes]:
        """Return a picture (PNG) for each sample: where the model looked to predict the label."""
        ...


class Features(Protocol):
    """Computes what cheap models learn from."""

    def features(self, x: "pd.Series[str]") -> "Array":
        """Return a row for each sample, of numbers or of one text."""
        ...


class Modality:
    """What x is: the modules of stages/modalities/NAME/, each imported on first use."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _module(self, part: str) -> Any:
        return import_module(f"stages.modalities.{self.name}.{part}")

    @cached_property
    def reading(self) -> Reading:
        """How x is found, read and looked at."""
        return self._module("reading")

    @cached_property
    def altering(self) -> Altering:
        """How x is altered."""
        return self._module("altering")

    @cached_property
    def encoding(self) -> Encoder:
        """How x is turned into a model's inputs."""
        return self._module("encoding")

    @cached_property
    def showing(self) -> Showing:
        """How x is shown to a person."""
        return self._module("showing")

    @cached_property
    def saliency(self) -> Saliency | None:
        """Which parts of x a model goes by; None if nothing shows them."""
        return (
            self._module("saliency")
            if find_spec(f"stages.modalities.{self.name}.saliency")
            else None
        )

    @cached_property
    def features(self) -> Features:
        """What cheap models learn from."""
        return self._module("features")


class Problem(Protocol):
    """What y is.

    In the manifest y is a list of strings, which the problem alone reads; its values are what
    people read and metrics compare.

    HEADS says which class of transformers reads a modality. KIND is what its configuration calls
    the problem. METRICS are the metrics by which models can be compared; the first is used unless
    evaluate.metric names another. HEADLINES are the results of measure that are shown, with the
    names that people know them by. OF_SLICES is the metric by which a few rows are measured.
    CONFLICTS says whether one of two y is wrong if x is the same.
    """

    HEADS: Mapping[str, str]
    KIND: str
    METRICS: Mapping[str, Metric]
    HEADLINES: Mapping[str, str]
    OF_SLICES: str
    CONFLICTS: bool

    def read(self, cells: "pd.Series[str]", settings: Any) -> "pd.DataFrame":
        """Return y (list of string), stratum, code and reason (same index).

        code and reason are null if y is good. The stratum is the class by which samples are parted
        alike, null if there is none.
        """
        ...

    def values(self, y: "pd.Series[Any]") -> "pd.Series[Any]":
        """Return each row's y as people read it and metrics compare it: a text or a number."""
        ...

    def borne(self, values: "pd.Series[Any]") -> "pd.Series[str]":
        """Return the labels that values name, one a row (index repeated); none if y has none."""
        ...

    def targets(self, y: "pd.Series[Any]", labels: list[str]) -> list[Any]:
        """Return the targets with which the objective compares the outputs."""
        ...

    def truth(self, targets: "Array", labels: list[str]) -> list[Any]:
        """Return the values from which the targets were made."""
        ...

    def decode(self, outputs: "Array", labels: list[str]) -> "pd.DataFrame":
        """Return predicted (a value) and confidence for each row of outputs (rows, outputs).

        The confidence is NaN if there is none.
        """
        ...

    def likelihood(self, outputs: "Array", targets: "Array") -> "Array":
        """Return the log-likelihood of each row's targets under outputs (rows, outputs).

        A term that all rows share may be missing.
        """
        ...

    def fit(
        self, features: Any, targets: "Array", outputs: int, c: float, balanced: bool
    ) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
        """Return weights (outputs, width) and bias (outputs) of a linear model.

        features (rows, width) may be sparse; c is the inverse strength of the model's
        regularisation; balanced gives all labels the same weight.
        """
        ...

    def constant(self, values: "pd.Series[Any]") -> Any:
        """Return the value that is the best guess for all rows."""
        ...

    def measure(self, y: list[Any], predicted: list[Any], labels: list[str]) -> dict[str, Any]:
        """Return the report on values: HEADLINES and others by name, and rows.

        If there are labels, it also has precision, recall, f1 and support of each.
        """
        ...

    def at_chance(self, targets: "Array", outputs: "Array") -> bool:
        """Return whether outputs know no more of targets than chance, if enough rows show it."""
        ...

    def confusions(self, y: "pd.Series[Any]", predicted: "pd.Series[Any]") -> "pd.DataFrame":
        """Return the pairs (columns actual and predicted, texts) that a confusion matrix counts."""
        ...


def labels(of_y: Problem, values: "pd.Series[Any]") -> list[str]:
    """Return the labels that values name, in the order of a model's outputs: sorted."""
    return sorted(of_y.borne(values).unique())


def outputs(labels: list[str]) -> int:
    """Return how many outputs a model has: one for each label, or one if there are no labels."""
    return max(len(labels), 1)


class Tune(Protocol):
    """Chooses what learns."""

    def prepare(
        self, model: Any, new: frozenset[str], learning: "Learning", settings: Any, /
    ) -> "tuple[Any, Learning]":
        """Return what learns (the model itself, one around it, or its head), and what from.

        Parameters named in `new` always learn.
        """
        ...

    def finish(self, learner: Any, /) -> Any:
        """Return the whole model, to be saved, from what learned."""
        ...


class Objective(Protocol):
    """What is minimised."""

    def loss(self, settings: Any, model: Any, targets: list[Any], /) -> Callable[..., Any]:
        """Return a function: (outputs, labels, num_items_in_batch) -> a scalar tensor.

        model is what learns, and targets are the targets of all train rows.
        """
        ...


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


class Loop(Protocol):
    """Takes the steps."""

    def fit(
        self, model: Any, learning: Learning, finetune: Any, compute: Any, work: Path
    ) -> list[dict[str, float]]:
        """Train in place, leave the best epoch's weights in the model, and return the history.

        work outlives a kill: if a run that was the same in everything left checkpoints there,
        training goes on from them. work is removed when the model is published.
        """
        ...


def settings(section: dict[str, Any]) -> Any:
    """Return a modality's settings from JSON, checked like the settings in params.yaml."""
    return TypeAdapter(get_type_hints(Task, include_extras=True)["modality"]).validate_json(
        json.dumps(section)
    )


def deciding(of_y: Problem, metric: str | None) -> str:
    """Return the metric that decides: the one in evaluate.metric, else the problem's first."""
    return metric or next(iter(of_y.METRICS))


def source(name: str) -> Source:
    """Return the module stages/sources/NAME.py."""
    return cast(Source, import_module(f"stages.sources.{name}"))


def format(name: str) -> Format:
    """Return the module stages/formats/NAME.py."""
    return cast(Format, import_module(f"stages.formats.{name}"))


def layout(name: str) -> Layout:
    """Return the module stages/layouts/NAME.py."""
    return cast(Layout, import_module(f"stages.layouts.{name}"))


def modality(name: str) -> Modality:
    """Return the modules of stages/modalities/NAME/."""
    return Modality(name)


def problem(name: str) -> Problem:
    """Return the module stages/problems/NAME.py."""
    return cast(Problem, import_module(f"stages.problems.{name}"))


def tune(name: str) -> Tune:
    """Return the module stages/methods/tune/NAME.py."""
    return cast(Tune, import_module(f"stages.methods.tune.{name}"))


def objective(name: str) -> Objective:
    """Return the module stages/methods/objective/NAME.py."""
    return cast(Objective, import_module(f"stages.methods.objective.{name}"))


def loop(name: str) -> Loop:
    """Return the module stages/methods/loop/NAME.py."""
    return cast(Loop, import_module(f"stages.methods.loop.{name}"))
