"""Compare two versions of a model on any labelled rows, with the evidence that the gate needs."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from stages.commands import rows, versions
from stages.contract import manifest, plugins, settings
from stages.contract.errors import DataError, ParamsError, RegistryError
from stages.contract.escape import extract, one_line
from stages.judging import evidence, ledger
from stages.models import scoring
from stages.params.data import Table
from stages.params.register import BeatsBaseline
from stages.params.task import Task
from stages.registry import registered


@dataclass(frozen=True)
class Result:
    """The metric of `candidate` minus the metric of `baseline`, on `rows` rows.

    left_out counts the rows that cannot be read or have no known label.
    """

    candidate: str
    baseline: str
    data: str
    rows: int
    left_out: int
    margin: float
    level: float
    evidence: evidence.Comparison


def compare(candidate: str, baseline: str, data: Path | None) -> Result:
    """Score both versions and compare them as the task's gate does.

    The rows come from `data`, a labelled table, or else they are the task's test rows.
    """
    pair = _pair(candidate, baseline)
    name = pair[0].name
    task, where = settings.task(name), data or Path("data/split", name, "test.parquet")
    gate = _gate(name, task)
    samples, left_out = _test_rows(where) if data is None else _labelled(data, task)
    level = ledger.level(gate.alpha, use=1)
    found = _compared(pair, samples, task, gate.margin, level)
    names = [f"{version.name}@{version.number}" for version in pair]
    return Result(names[0], names[1], str(where), len(samples), left_out, gate.margin, level, found)


def told(found: Result) -> list[str]:
    """Return a result as lines for a person to read."""
    of, out = found.evidence, f", {found.left_out:,} left out" if found.left_out else ""
    return [
        f"{one_line(found.data, 200)}: {found.rows:,} rows{out}",
        f"{of.metric}: {found.candidate} {of.candidate:.4f}, {found.baseline} {of.baseline:.4f}, "
        f"difference {of.difference:+.4f}",
        f"with {1 - found.level:.1%} confidence at least {of.lower:+.4f}, and with the same at "
        f"most {of.upper:+.4f}; the gate's margin is {found.margin:g}",
    ]


def _pair(candidate: str, baseline: str) -> list[registered.Version]:
    """Return both versions, which are of one model."""
    first, second = (versions.find(model) for model in (candidate, baseline))
    if first.name != second.name:
        raise RegistryError(
            f"{first.name} and {second.name}: are two models; compare two versions of one"
        )
    return [first, second]


def _gate(name: str, task: Task) -> BeatsBaseline:
    """Return the gate of a task whose margin and alpha are meant."""
    gate = next((gate for gate in task.register.gates if isinstance(gate, BeatsBaseline)), None)
    if gate is None:
        raise ParamsError(
            f"params.yaml: tasks.{name}.register.gates has no beats_baseline, whose margin "
            "and alpha are meant"
        )
    return gate


def _compared(
    pair: list[registered.Version], samples: pd.DataFrame, task: Task, margin: float, level: float
) -> evidence.Comparison:
    """Score both versions on the samples, and compare them."""
    of_y = plugins.problem(task.problem.name)
    y = of_y.values(samples["y"])
    metric = of_y.METRICS[plugins.deciding(of_y, task.evaluate.metric)]
    predicted = [_predicted(version, samples, task) for version in pair]
    labels = plugins.labels(of_y, pd.concat([y, *predicted]))
    first, second = (metric.tally(y, answers, labels) for answers in predicted)
    return evidence.compare(first, second, metric, margin=margin, level=level)


def _test_rows(path: Path) -> tuple[pd.DataFrame, int]:
    if not path.is_file():
        raise DataError(
            f"{path}: is not there; run `dvc repro split@{path.parent.name}`, or name a table: "
            "--data TABLE"
        )
    return manifest.read(path), 0


def _labelled(path: Path, task: Task) -> tuple[pd.DataFrame, int]:
    """Return the rows of a table that the task can use, and how many others there are.

    The task can use the rows that can be read and have a label that it knows.
    """
    layout = task.data.layout
    if not isinstance(layout, Table):
        raise ParamsError(
            "params.yaml: the task's data is a folder a label, so no column of a table is its "
            "label; compare on the test rows"
        )
    if not path.is_file():
        raise DataError(
            f"{extract(path)}: is not there; name a table with the columns that the task learned "
            "from"
        )
    found = rows.labelled(path, task, layout.columns.ys)
    good = found[found["code"].isna()]
    if good.empty:
        raise DataError(
            f"{extract(path)}: not one of {len(found):,} rows is fit "
            f"({extract(found['reason'].iloc[0])})"
        )
    return good.reset_index(drop=True), len(found) - len(good)


def _predicted(version: registered.Version, samples: pd.DataFrame, task: Task) -> "pd.Series[str]":
    with TemporaryDirectory(prefix="refit-") as folder:
        return scoring.predict(
            registered.download(version, Path(folder)), samples, task.compute, version.sha256
        )["predicted"]
