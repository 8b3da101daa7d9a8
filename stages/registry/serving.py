"""Open a registered model, and predict with it: from a command, from Python, or from MLflow."""

import os
import re
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import pandas as pd

from stages.contract import characters, plugins, runner, settings, stopping, store
from stages.contract.errors import DataError, ModelError
from stages.contract.escape import extract
from stages.models import scoring
from stages.models.saved import Saved
from stages.models.scoring import likely
from stages.params.compute import Compute
from stages.registry import registered

REGISTERED = re.compile(r"([a-z0-9_]+)(?:@(champion|[1-9][0-9]{0,8}))?")
BATCH = 32  # rows scored together, if no task says otherwise

Sample = str | bytes | Path
Found = tuple[str, Path, str | None]


@dataclass(frozen=True)
class Predictor:
    """A model that predicts for new samples; threads take turns."""

    name: str
    """NAME@NUMBER, or its folder"""
    sha256: str
    opened: scoring.Opened
    turn: Any = field(default_factory=Lock)

    @property
    def labels(self) -> list[str]:
        """The labels that it can predict; none if it predicts a number."""
        return self.opened.saved.labels

    def predict(self, samples: Sequence[Sample], probabilities: bool = False) -> pd.DataFrame:
        """Return a row for each sample, in order: predicted, confidence, code and reason.

        A sample is a text or, for a model of pictures, a file: its path or its bytes. One that
        cannot be predicted for has a code and a reason instead. With probabilities, a column
        `probability LABEL` for each label follows.
        """
        if isinstance(samples, str | bytes):
            raise DataError(f"{self.name}: predicts for a list of samples; put this one into one")
        with TemporaryDirectory(prefix="refit-") as folder:
            rows = self._read([*samples], Path(folder))
            scored = self.score(rows, probabilities)
        first = ["predicted", "confidence", "code", "reason"]
        return scored[[*first, *(likely(self.labels) if probabilities else [])]]

    def _read(self, samples: list[Sample], folder: Path) -> pd.DataFrame:
        """Return x, code and reason of samples; bytes become files in the folder."""
        reading = plugins.modality(self.opened.saved.modality["name"]).reading
        if not reading.FILES:
            if any(not isinstance(sample, str) for sample in samples):
                raise DataError(f"{self.name}: predicts for texts; give each as a str")
            rows = pd.DataFrame({"x": samples, "code": None, "reason": None}, dtype=object)
            return characters.set_aside(rows.assign(y="", meta="{}", origin=""), "utf-8")
        if any(not isinstance(sample, Path | bytes) for sample in samples):
            raise DataError(f"{self.name}: predicts for files; give each as a Path or as bytes")
        files = list[Path]()
        for i, sample in enumerate(samples):
            files.append(folder / str(i) if isinstance(sample, bytes) else Path(sample).absolute())
            if isinstance(sample, bytes):
                files[-1].write_bytes(sample)
        return reading.read(pd.Series(files, dtype=object), "utf-8")

    def score(
        self,
        rows: pd.DataFrame,
        probabilities: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> pd.DataFrame:
        """Return rows (x, code, reason) with predicted and confidence.

        A row that the model's modality refuses gets a code and a reason instead.
        """
        modality = self.opened.saved.modality
        reading = plugins.modality(modality["name"]).reading
        with self.turn:
            good = rows.loc[rows["code"].isna(), "x"]
            looked = reading.look(good, plugins.settings(modality))
            rows.loc[good.index, ["code", "reason"]] = looked[["code", "reason"]]
            good = rows[rows["code"].isna()]
            if good.empty:
                none = ["confidence", *(likely(self.labels) if probabilities else [])]
                return rows.assign(predicted=None, **dict.fromkeys(none, float("nan")))
            return rows.join(self.opened.predict(good, progress, probabilities))


def load(model: str | Path, compute: Compute | None = None) -> Predictor:
    """Return the predictor of TASK (its champion), TASK@NUMBER, or a folder that export wrote.

    Its bytes are verified. It computes as the task in params.yaml does or, if there is none, in
    float32 on all processors. Raises ModelError if there is no such model, RegistryError if the
    registry has no such version or does not answer.
    """
    runner.quiet()
    with found(str(model)) as (name, folder, sha256):
        described = scoring.verified(folder, sha256)
        how = compute or _stated(described) or portable()
        opened = scoring.opened(folder, described, how)
        return Predictor(name, sha256 or scoring.identity(folder), opened)


def _stated(described: Saved) -> Compute | None:
    """Return how the task of a model computes, if params.yaml is here and has it."""
    if not Path("params.yaml").is_file():
        return None
    task = settings.load().tasks.get(described.task)
    return task.compute if task else None


def portable() -> Compute:
    """Return how a model computes alike on every machine."""
    return Compute(len(os.sched_getaffinity(0)), "float32", "contiguous_format", BATCH)


@contextmanager
def found(model: str, beside: bool = False) -> Generator[Found]:
    """Yield a model's name, its folder, and the sha256 it was registered with.

    The caller has to verify the bytes. With beside, a fork of this process asks the registry while
    this one imports what a model needs, which saves a second: only if no thread has started yet.
    """
    if named := REGISTERED.fullmatch(model):
        number = None if named[2] == "champion" else named[2]
        with TemporaryDirectory(prefix="refit-") as folder:
            copy = _copy_beside if beside and sys.platform == "linux" else _copy
            version, copied = copy(named[1], number, Path(folder))
            yield f"{version.name}@{version.number}", copied, version.sha256
    elif (Path(model) / "model.json").is_file():
        yield model, Path(model), None
    else:
        raise ModelError(
            f"{extract(model)}: is neither TASK, nor TASK@NUMBER, nor a folder with a model.json, "
            "such as data/export/TASK"
        )


def _copy(name: str, number: str | None, folder: Path) -> tuple[registered.Version, Path]:
    """Look a version up, and copy its files below a folder."""
    store.ping()
    version = registered.version(name, number)
    return version, registered.download(version, folder)


def _copy_beside(name: str, number: str | None, folder: Path) -> tuple[registered.Version, Path]:
    with ProcessPoolExecutor(1, get_context("fork"), stopping.end_with_parent) as process:
        copied = process.submit(_copy, name, number, folder)
        scoring.import_libraries()
        return copied.result()
