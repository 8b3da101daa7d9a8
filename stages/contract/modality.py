"""Define what a modality must offer, and import its modules on first use.

A modality is a folder of modules, stages/modalities/NAME/, each with the functions of a Protocol.
"""

from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stages.contract.learning import Encoded, Inputs
from stages.params.types import Encoding

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    Array = np.ndarray[Any, Any]


class Reading(Protocol):
    """Reads x.

    FILES says whether a sample is a file, which x names, or else a text. Settings are the section
    `modality` of a task, or of the model that was trained with it.
    """

    FILES: bool

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

    def encode(self, samples: "pd.DataFrame", processor: Any, settings: Any) -> Encoded:
        """Return the model's inputs for each sample, not padded.

        x must have the `content` that the sample states, if it states one.
        """
        ...

    def encode_anew(
        self, samples: "pd.DataFrame", processor: Any, settings: Any, augment: Any
    ) -> Encoded:
        """Return the inputs of train rows, which are altered anew in each epoch if augment says so.

        In that case the result has `anew`, which is true, and set_epoch(epoch).
        """
        ...

    def encode_altered(
        self, samples: "pd.DataFrame", processor: Any, settings: Any, transform: Any, seed: int
    ) -> Encoded:
        """Return what encode returns, for samples that one transform alters.

        A draw depends on (seed, id) and on nothing else.
        """
        ...

    def largest(self, processor: Any, settings: Any, rows: int) -> Encoded:
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

    def lengths(self, encoded: Encoded) -> list[int]:
        """Return a length for each row, by which similar rows are batched.

        The lengths are equal if all rows are.
        """
        ...

    def views(self, inputs: Inputs, settings: Any) -> list[Inputs]:
        """Return a batch for each of the views whose logits are averaged."""
        ...

    def collate(self, processor: Any) -> Callable[[list[Inputs]], Inputs]:
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
