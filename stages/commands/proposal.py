"""Look at labelled data, and propose a task for it: a starter with what the data chooses."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from stages.checks import trial
from stages.commands import defaults, guess, problems
from stages.commands.guess import Guess
from stages.contract import characters, plugins, settings
from stages.contract.errors import DataError, ModelError
from stages.contract.escape import extract, one_line
from stages.contract.modality import Modality
from stages.domain import profiles
from stages.modalities.image.reading import MOST_PIXELS
from stages.models import linear, loading
from stages.params.data import Table
from stages.params.finetune import Full, LinearProbe, RandomHead
from stages.params.image import ImageModality
from stages.params.task import Task

MOST_BAD = 0.15  # of rows: more means another encoding or column, not a bad row here and there
LOOKED_AT = 2_000  # pictures
UNREAD = 0.05  # of the tokens: with more, the base is not for this language


@dataclass(frozen=True)
class Found:
    """What was found in data.

    rows counts all rows, bad the bad ones, and labels the rows of each label; of_y is what y is,
    and notes and chosen are what to say about the data.
    """

    rows: int
    bad: int
    labels: dict[str, int]
    of_y: str
    notes: list[str]
    chosen: list[str]


@dataclass(frozen=True)
class Rows:
    """The rows of data: the good ones and the bad ones, and the share of bad ones.

    looked has what was seen of pictures that are good; values are y of the good rows, and borne has
    their labels, one at a time. one_label says that each has one.
    """

    good: pd.DataFrame
    bad: pd.DataFrame
    share: float
    looked: pd.DataFrame
    values: "pd.Series[Any]"
    borne: "pd.Series[Any]"
    one_label: bool


def task(
    data: Guess, name: str, base: str, start: dict[str, Any], problem: str | None
) -> tuple[Task, Found]:
    """Return the task for data, and what was found in it.

    base is the base model that was named, or empty; start is a starter; problem is what the user
    says that y is.
    """
    rows, why = _rows(data, start, problem)
    counted = rows.borne.value_counts().sort_index()
    labels = {str(label): int(number) for label, number in counted.items()}
    problems.require_learnable(rows.values, labels, extract(data.lies))
    _state(start, data, name, base, rows, labels)
    is_text, folder = start["modality"]["name"] == "text", Path("data/raw", start["base"])
    seen = defaults.look(rows.good, rows.borne, is_text, folder, rows.one_label)
    notes = [*_left_aside(rows.bad), *(_unread(start["base"], seen) if base else [])]
    chosen = [*filter(None, [why]), *defaults.apply(start, seen, bool(base))]
    if (profiles.FOLDER / f"{start['base']}.json").is_file():
        start["validate"]["domain"]["profile"] = start["base"]
    stated = json.dumps({name: of for name, of in start.items() if name != "slower"})
    number, of_y = len(rows.good) + len(rows.bad), _describe(rows.values, labels)
    found = Found(number, len(rows.bad), labels, of_y, notes, chosen)
    return TypeAdapter(Task).validate_json(stated), found


def _rows(data: Guess, start: dict[str, Any], problem: str | None) -> tuple[Rows, str]:
    """Return the rows of data, once the starter says what y is, and why it says so.

    Raises DataError if too many of them are bad.
    """
    of_x, where = plugins.modality(start["modality"]["name"]), extract(data.lies)
    rows = read(data, of_x)
    good = rows[rows["code"].isna()]
    labelled = ~good["y"].map(characters.is_blank).astype(bool)
    columns = len(data.layout.columns.ys) if isinstance(data.layout, Table) else 1
    why = problems.state(start, good.loc[labelled, "y"], columns, where, problem)
    stated, of_y = settings.problem(start["problem"]), plugins.problem(start["problem"]["name"])
    y = of_y.read(good["y"], stated)
    mark(rows, y)
    share, looked = float(rows["code"].notna().mean()), pd.DataFrame()
    if start["modality"]["name"] == "image" and share < 1:
        looked = look(of_x, rows.loc[rows["code"].isna(), "x"])
        mark(rows, looked)
        share += float(looked["code"].notna().mean())
        looked = looked[looked["code"].isna()]
    good, bad = rows[rows["code"].isna()], rows[rows["code"].notna()]
    if share > MOST_BAD:
        advice = "mend them, or name the columns: --text COLUMN --label COLUMN"
        raise DataError(f"{where}: {unusable(bad, len(rows))}; {advice}")
    values = of_y.values(y.loc[good.index, "y"])
    return Rows(good, bad, share, looked, values, of_y.borne(values), stated.LABELS == "one"), why


def read(data: Guess, of_x: Modality) -> pd.DataFrame:
    """Return the rows of data without junk; a row whose sample is empty is bad."""
    reader = plugins.layout(data.layout.name)
    rows = reader.read(guess.root(data.lies), data.layout, data.encoding, of_x)
    rows = rows[rows["code"] != "junk"].copy()
    empty = rows["code"].isna() & rows["x"].map(characters.is_blank).astype(bool)
    rows.loc[empty, ["code", "reason"]] = ["empty", "the sample is empty"]
    return rows


def mark(rows: pd.DataFrame, seen: pd.DataFrame) -> None:
    """Write the code and reason of rows that were looked at."""
    rows.loc[seen.index, ["code", "reason"]] = seen[["code", "reason"]]


def _left_aside(bad: pd.DataFrame) -> list[str]:
    """Return a line for each code of bad rows."""
    return [
        f"left aside: {number:,} rows, {code} "
        f"(first {extract(of['origin'].iloc[0])}: {one_line(of['reason'].iloc[0], 150)})"
        for code, of in bad.groupby("code")
        if (number := len(of))
    ]


def unusable(bad: pd.DataFrame, rows: int) -> str:
    """Say that too many of so many rows are bad, and what is wrong with the first."""
    first = bad.iloc[0]
    return (
        f"{len(bad):,} of {rows:,} rows cannot be used (first {extract(first['origin'])}: "
        f"{one_line(first['reason'], 200)}), at most {MOST_BAD:.0%} may be"
    )


def _unread(base: str, seen: defaults.Facts) -> list[str]:
    """Return a line about a base that does not read the texts, if it does not."""
    if (seen.unknown or 0) <= UNREAD:
        return []
    return [f"{base} does not know {seen.unknown:.0%} of the tokens; --base e5 reads them"]


def _state(
    start: dict[str, Any], data: Guess, name: str, base: str, rows: Rows, labels: dict[str, int]
) -> None:
    """Put into a starter what the data is, and its limits."""
    of_x = plugins.modality(start["modality"]["name"])
    start["modality"] |= of_x.reading.suggest(rows.good["x"], rows.looked)
    layout = json.loads(TypeAdapter(type(data.layout)).dump_json(data.layout))
    start["data"] = {"source": name, "encoding": data.encoding, "layout": layout}
    start["base"] = base or start["base"]
    limits = start["validate"]
    # no more bad rows than there are now
    bad = math.ceil(100 * rows.share + 1) / 100
    limits["max_bad_fraction"] = max(limits["max_bad_fraction"], bad)
    limits["min_rows"] = max(1, len(rows.good) * 8 // 10)
    if labels:
        most, fewest = max(labels.values()), min(labels.values())
        limits["min_rows_per_label"] = max(problems.FEWEST_ROWS, fewest // 2)
        limits["max_label_ratio"] = float(max(10, 2 * -(-most // fewest)))
        limits["label_distribution"]["weights"] = labels


def _describe(values: "pd.Series[Any]", labels: dict[str, int]) -> str:
    """Return what y is, for a person: its labels, the most frequent first, or its numbers."""
    if not labels:
        return f"numbers from {values.min():g} to {values.max():g}, {values.mean():.3g} in the mean"
    shown = sorted(labels.items(), key=lambda item: -item[1])[:5]
    return (
        f"{len(labels)} labels "
        f"({', '.join(f'{one_line(key, 30)} {number:,}' for key, number in shown)}"
        f"{', ...' if len(labels) > 5 else ''})"
    )


def look(of_x: Modality, x: "pd.Series[str]") -> pd.DataFrame:
    """Look at up to LOOKED_AT of the pictures."""
    return of_x.reading.look(
        x.iloc[:: -(-len(x) // LOOKED_AT)],
        ImageModality("image", (1, 65_535), MOST_PIXELS, (1, 65_535), 1, 1, ("as_is",)),
    )


def tried(task: Task, folder: Path) -> Task:
    """Return the task with sizes and a start of the head that its base model takes.

    The task stays as it is if the base model is not here. Raises ModelError if it cannot be
    trained.
    """
    if not folder.is_dir():
        return task
    of_x, of_y = plugins.modality(task.modality.name), plugins.problem(task.problem.name)
    task = replace(task, modality=trial.fitting(folder, of_x, of_y, task.modality))
    try:
        linear.head(*loading.load(of_y, folder, task.modality.name, trial.LABELS, new_head=True))
    except ModelError:  # the head has several new layers, and none of them can be solved
        solved = isinstance(task.finetune.tune, LinearProbe)
        tune = Full("full", True) if solved else task.finetune.tune
        task = replace(task, finetune=replace(task.finetune, head=RandomHead("random"), tune=tune))
    return task
