"""Predict for every row of a file, with a registered model or with a model's folder.

A bad row costs one row.
"""

import json
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from stages.commands import pictures, rows
from stages.contract import manifest, plugins, runner, settings, store
from stages.contract.errors import DataError, ModelError, ParamsError, TableError
from stages.contract.escape import extract, one_line
from stages.layouts import table
from stages.models import scoring
from stages.models.saved import Saved
from stages.params.compute import Compute
from stages.params.task import Task
from stages.registry import registered

KEPT = Path("data/predict")
STAMP = "%Y%m%dT%H%M%SZ"  # begins the name of a kept table, so that names sort by time
REGISTERED = re.compile(r"([a-z0-9_]+)(?:@([1-9][0-9]{0,8}))?")


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
    out: Path
    log: Path | None
    seconds: float


def predict(
    model: str, source: Path, out: Path | None, column: str | None, log: bool, force: bool
) -> Result:
    """Write every row of `source` with its prediction, or with the reason why it has none.

    A prediction has a confidence, and a reason has a code. model is TASK (its champion),
    TASK@NUMBER, or a folder that export wrote. The model reads `column`; if that is None, it
    reads the column that its task is trained on, or the only column there is. log keeps the same
    rows below data/predict.
    """
    began = time.monotonic()
    runner.quiet()
    out = out or Path(f"{Path(source.name.removesuffix('.gz')).stem}.predicted.parquet")
    _require_readable(source)
    _require_writable(out, source, force)
    tasks = settings.load().tasks
    with _found(model) as (name, folder, sha256):
        described = scoring.verified(folder, sha256)
        task = _task(described, tasks)
        sha256 = sha256 or scoring.identity(folder)
        read = rows.reading(source, column, task).why if rows.is_table(source) else "every picture"
        samples = rows.read(source, column, task, described.modality["name"])
        scored = _score(samples, folder, sha256, described, task.compute)
    _write(scored, out)
    kept = _keep(scored, described.task, name, sha256) if log else None
    bad, seconds = int(scored["code"].notna().sum()), round(time.monotonic() - began, 3)
    return Result(name, read, sha256, len(scored), bad, out, kept, seconds)


def told(found: Result) -> list[str]:
    """Return a result as lines for a person to read."""
    return [
        f"{found.out}: {found.rows:,} rows by {found.model}, {found.bad:,} of them bad "
        f"(see code and reason), {found.seconds:.1f} s",
        f"read: {one_line(found.read, 200)}",
        *([f"kept in {found.log}"] if found.log else []),
    ]


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
    _write(scored.assign(time=at, model=model, model_sha256=sha256), kept)
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


def _require_writable(out: Path, source: Path, force: bool) -> None:
    """Raise DataError for output that cannot or must not be written, before any work."""
    if out.suffix.lower() not in (".parquet", ".jsonl"):
        raise DataError(f"--out {extract(out)}: must end in .parquet or .jsonl")
    if not out.parent.is_dir():
        raise DataError(
            f"--out {extract(out)}: there is no folder {extract(out.parent)}; make it first"
        )
    if out.exists() and (out.is_dir() or out.samefile(source)):
        raise DataError(
            f"--out {extract(out)}: is {'a folder' if out.is_dir() else 'the input itself'}; name "
            "another file"
        )
    if out.exists() and not force:
        raise DataError(
            f"{extract(out)}: is there already; say --force to write over it, or --out to name "
            "another file"
        )


@contextmanager
def _found(model: str) -> Generator[tuple[str, Path, str | None]]:
    """Yield a model's name, its folder, and the sha256 it was registered with.

    The caller has to verify the bytes.
    """
    if named := REGISTERED.fullmatch(model):
        store.ping()
        version = registered.version(named[1], named[2])
        with TemporaryDirectory(prefix="refit-") as folder:
            copied = registered.download(version, Path(folder))
            yield f"{version.name}@{version.number}", copied, version.sha256
    elif (Path(model) / "model.json").is_file():
        yield model, Path(model), None
    else:
        raise ModelError(
            f"{extract(model)}: is neither TASK, nor TASK@NUMBER, nor a folder with a model.json, "
            "such as data/export/TASK"
        )


def _score(
    rows: pd.DataFrame, folder: Path, sha256: str, described: Saved, compute: Compute
) -> pd.DataFrame:
    """Return rows with predicted and confidence.

    A row that the model's modality refuses gets a code and a reason instead.
    """
    from rich.console import Console
    from rich.progress import Progress

    good = rows.loc[rows["code"].isna(), "x"]
    looked = plugins.modality(described.modality["name"]).reading.look(
        good, plugins.settings(described.modality)
    )
    rows.loc[good.index, ["code", "reason"]] = looked[["code", "reason"]]
    good = rows[rows["code"].isna()]
    if good.empty:
        return rows.assign(predicted=None, confidence=float("nan"))
    with Progress(
        console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True
    ) as bar:
        shown = bar.add_task("predicting", total=len(good))
        return rows.join(
            scoring.predict(folder, good, compute, sha256, lambda done: bar.advance(shown, done))
        )


def _write(rows: pd.DataFrame, path: Path) -> None:
    """Write rows in the format of the suffix, all of them or nothing."""
    schema = manifest.predicted_schema(rows)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.suffix.lower() == ".parquet":
            manifest.write_table(rows, beside, schema)
        else:
            _write_lines(rows, beside, schema.names)
        beside.replace(path)
    except OSError as error:
        raise DataError(
            f"{extract(path)}: cannot be written ({one_line(error.strerror, 100)}); name another "
            "place"
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def _write_lines(rows: pd.DataFrame, path: Path, names: list[str]) -> None:
    """Write these columns of rows as JSON, a line a row."""
    rows = rows[names].astype(object).mask(rows.isna(), None)
    with path.open("w", encoding="utf-8") as file:
        for row in rows.itertuples(index=False, name=None):
            document = dict(zip(names, row, strict=True))
            # as text, because infinity is not JSON
            document["meta"] = json.loads(document["meta"], parse_constant=str)
            file.write(json.dumps(document, ensure_ascii=False) + "\n")
