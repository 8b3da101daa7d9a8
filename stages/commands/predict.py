"""Predict for every row of a file, for stdin, or for samples that are named.

A bad row costs one row.
"""

import secrets
import stat
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from stages.commands import output, pictures, rows
from stages.contract import characters, plugins, runner, settings
from stages.contract.errors import DataError, ParamsError, TableError
from stages.contract.escape import extract, one_line
from stages.layouts import table
from stages.models import scoring
from stages.models.saved import Saved
from stages.params.task import Task
from stages.registry import serving
from stages.registry.serving import Predictor

KEPT = Path("data/predict")
STAMP = "%Y%m%dT%H%M%SZ"  # begins the name of a kept table, so that names sort by time
STDIN = Path("-")


@dataclass(frozen=True)
class Asked:
    """For what to predict, and how to write it.

    source is a file, a folder or STDIN, whose lines are written as kind says; samples are texts or
    paths of pictures instead. column is read; if that is None, the one that the task is trained on,
    or the only one there is. Without out, rows are printed. log keeps them below data/predict.
    """

    source: Path | None = None
    samples: tuple[str, ...] = ()
    kind: str = "txt"
    column: str | None = None
    out: Path | None = None
    probabilities: bool = False
    log: bool = False
    force: bool = False


@dataclass(frozen=True)
class Result:
    """What was predicted, by which model, and where it was written.

    read says what was taken for x; bad rows have a code and no prediction.
    """

    model: str
    read: str
    sha256: str
    rows: int
    bad: int
    out: Path | None
    log: Path | None
    seconds: float


def predict(model: str, asked: Asked) -> Result:
    """Write every row with its prediction, or with the reason why it has none.

    A prediction has a confidence, and a reason has a code. model is TASK (its champion),
    TASK@NUMBER, or a folder that export wrote.
    """
    began = time.monotonic()
    runner.quiet()
    if (asked.source is None) == (not asked.samples):
        raise DataError("name either INPUT (a file, a folder, or - for stdin) or --sample")
    if asked.samples and asked.column:
        raise DataError("--text: names a column of INPUT, and --sample is none; leave one out")
    if asked.out:
        output.require_writable(asked.out, asked.source, asked.force)
    tasks = settings.load().tasks
    with _lying(asked) as source, serving.found(model, beside=True) as (name, folder, sha256):
        described = scoring.verified(folder, sha256)
        task = _task(described, tasks)
        sha256 = sha256 or scoring.identity(folder)
        samples, read = _samples(source, asked, task, described)
        predictor = Predictor(name, sha256, scoring.opened(folder, described, task.compute))
    scored = _score(predictor, samples, asked.probabilities)
    if asked.out:
        output.to_file(scored, asked.out)
    else:
        output.to_stdout(scored)
    kept = _keep(scored, described.task, name, sha256) if asked.log else None
    bad, seconds = int(scored["code"].notna().sum()), round(time.monotonic() - began, 3)
    return Result(name, read, sha256, len(scored), bad, asked.out, kept, seconds)


def told(found: Result) -> list[str]:
    """Return a result as lines for a person to read."""
    return [
        f"{found.out or 'stdout'}: {found.rows:,} rows by {found.model}, {found.bad:,} of them bad "
        f"(see code and reason), {found.seconds:.1f} s",
        f"read: {one_line(found.read, 200)}",
        *([f"kept in {found.log}"] if found.log else []),
    ]


@contextmanager
def _lying(asked: Asked) -> Generator[Path | None]:
    """Yield the input as a file; stdin is read to its end first."""
    if asked.source != STDIN:
        if asked.source is not None:
            _require_readable(asked.source)
        yield asked.source
        return
    with TemporaryDirectory(prefix="refit-") as folder:
        path = Path(folder, f"stdin.{asked.kind}")
        if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]  (it was closed)
            raise DataError("stdin: is closed; name a file, or say --sample")
        path.write_bytes(sys.stdin.buffer.read())
        try:
            yield path
        except TableError as error:  # the file is of no concern to the user
            raise TableError(str(error).replace(str(path), "stdin")) from None


def _samples(
    source: Path | None, asked: Asked, task: Task, described: Saved
) -> tuple[pd.DataFrame, str]:
    """Return the rows to predict for, and what was taken for x."""
    modality = described.modality["name"]
    if source is None:
        return _named(asked.samples, modality), "--sample"
    reading = plugins.modality(modality).reading
    if reading.FILES and asked.source == STDIN and asked.kind == "txt":
        raise DataError("stdin: the model predicts for files; name them, or say --stdin csv")
    if rows.is_table(source):
        why = rows.reading(source, asked.column, task).why
        return rows.read(source, asked.column, task, modality), why
    return rows.read(source, asked.column, task, modality), "every picture"


def _named(samples: Sequence[str], modality: str) -> pd.DataFrame:
    """Return the rows of samples that are named on the command line."""
    reading = plugins.modality(modality).reading
    found = pd.DataFrame({"x": [*samples], "code": None, "reason": None}, dtype=object)
    if reading.FILES:
        paths = pd.Series([Path(sample).absolute() for sample in samples], dtype=object)
        found = reading.read(paths, "utf-8")
    origin = [f"--sample {i + 1}" for i in range(len(samples))]
    return characters.set_aside(found.assign(y="", origin=origin, meta="{}"), "utf-8")


def _task(described: Saved, tasks: dict[str, Task]) -> Task:
    """Return the task that a model was trained for."""
    if described.task not in tasks:
        raise ParamsError(
            f"params.yaml: has no task '{extract(described.task)}', whose `compute` (threads, "
            "batch_size) this model runs with; add its block"
        )
    return tasks[described.task]


def _keep(scored: pd.DataFrame, task: str, model: str, sha256: str) -> Path:
    """Write scored rows below data/predict too, and return where."""
    now = datetime.now(UTC)
    kept = KEPT / task / f"{now:{STAMP}}-{secrets.token_hex(3)}.parquet"
    kept.parent.mkdir(parents=True, exist_ok=True)
    at = now.isoformat(timespec="seconds")
    output.to_file(scored.assign(time=at, model=model, model_sha256=sha256), kept)
    return kept


def _require_readable(source: Path) -> None:
    """Raise TableError for input that cannot be read, before any work."""
    if not source.exists() or not (source.is_dir() or stat.S_ISREG(source.stat().st_mode)):
        raise TableError(
            f"{extract(source)}: "
            f"{'is not a regular file' if source.exists() else 'is not there'}; name a file or a "
            "folder to predict for"
        )
    if (
        not source.is_dir()
        and table.suffix(source) not in table.UNLABELLED
        and not pictures.is_picture(source)
    ):
        raise TableError(
            f"{extract(source)}: is none of {', '.join(table.UNLABELLED)} (a text also as .gz), "
            "no picture and no folder of pictures; convert it"
        )


def _score(predictor: Predictor, samples: pd.DataFrame, probabilities: bool) -> pd.DataFrame:
    """Return rows with their predictions, and show on a terminal how far that is."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(
        console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True
    ) as bar:
        shown = bar.add_task("predicting", total=len(samples))
        return predictor.score(samples, probabilities, lambda done: bar.advance(shown, done))
