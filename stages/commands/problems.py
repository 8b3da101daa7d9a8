"""What y is: the problem that the user names, or that the cells of y look like."""

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from stages.checks import spelling
from stages.commands import defaults
from stages.contract import settings
from stages.contract.cells import as_list
from stages.contract.errors import DataError, ParamsError
from stages.contract.escape import extract
from stages.problems import regression

# What a problem changes in a starter, which is a starter of classification.
CHANGES = Path(__file__).with_name("problems.yaml")
SEPARATORS = {"a comma": ",", "a bar": "|", "a semicolon": ";"}  # between the labels of one cell
SEVERAL = 0.05  # of the rows: if there are fewer, they are names with a comma in them
MAX_LABELS = 1_000
FEWEST_ROWS = 3  # of a label: one for each part
FEW_NUMBERS = 20  # different ones, for example stars, are labels unless the user says otherwise
ONE_LABEL: dict[str, Any] = {"name": "classification", "labels": None}


def require(problem: str | None) -> None:
    """Raise ParamsError for a problem that the user names and that is none."""
    available = ["classification", *settings.read_yaml(CHANGES)]
    if problem is not None and problem not in available:
        raise ParamsError(
            f"--problem {extract(problem)}: is none; there are {', '.join(available)}"
        )


def state(
    start: dict[str, Any], y: "pd.Series[str]", columns: int, where: str, problem: str | None
) -> str:
    """Put into a starter what y is, as the user says or as its cells look.

    Return why, if that is not one label a row. y has so many columns.
    """
    guessed, why = (ONE_LABEL, None) if problem else guess(y, columns, where)
    name, changes = problem or guessed["name"], settings.read_yaml(CHANGES)
    if name not in changes:
        return ""
    defaults.merge(start, changes[name])
    if problem is None:
        start["problem"] = dict(guessed)
        return (
            f"{why}: any number of labels is learned a row; --problem classification takes a cell "
            "as one label"
        )
    if name == "multi_label" and (several := separated(y)):
        start["problem"]["separator"] = several[0]
    return ""


def guess(y: "pd.Series[str]", columns: int, where: str) -> tuple[dict[str, Any], str | None]:
    """Return the settings of the problem that the cells of y look like, and a reason.

    The reason is None if the problem is one label a row. y has several columns if `columns` is more
    than one. Raises DataError for numbers that may be values or names of classes.
    """
    several_labels = settings.read_yaml(CHANGES)["multi_label"]["problem"]
    if columns > 1:
        return several_labels, f"{columns} columns of labels"
    if len(y) and y.map(lambda cell: as_list(str(cell)) is not None).mean() > 0.5:
        return several_labels, f"labels are lists (such as {extract(y.iloc[0])})"
    if several := separated(y):
        mark, line = several
        return several_labels | {"separator": mark}, line
    _require_classes(y.str.strip().unique(), where)
    return ONE_LABEL, None


def _require_classes(values: Any, where: str) -> None:
    """Raise DataError for many different numbers, unless they count on from 0 or 1."""
    if len(values) <= FEW_NUMBERS or not all(
        regression.NUMBER.fullmatch(value) for value in values
    ):
        return
    numbers = sorted(map(float, values))
    if numbers not in [[*map(float, range(first, first + len(numbers)))] for first in (0, 1)]:
        raise DataError(
            f"{where}: labels are numbers, {len(numbers):,} different ones from "
            f"{numbers[0]:g} to {numbers[-1]:g}: say --problem regression where they measure "
            "something, --problem classification where they name classes"
        )


def separated(y: "pd.Series[str]") -> tuple[str, str] | None:
    """Return the separator, and a line about it, if cells of labels look like several labels each.

    They do if the labels between the separators are in other cells too.
    """
    cells = y.str.strip()
    for spelled, mark in SEPARATORS.items():
        parts = cells.str.split(mark, regex=False).map(
            lambda of: frozenset(part.strip() for part in of)
        )
        many = parts.map(len) > 1
        if many.mean() < SEVERAL:
            continue
        cells_of = Counter(part for of in set(parts) for part in of)
        shared = [of for of in set(parts[many]) if any(cells_of[part] > 1 for part in of)]
        if len(shared) > len(set(parts[many])) / 2:
            detail = f"parted by {spelled} (such as {extract(cells[many].iloc[0])})"
            return mark, f"{int(many.sum()):,} of {len(y):,} labels look like several, {detail}"
    return None


def require_learnable(values: "pd.Series[Any]", labels: dict[str, int], where: str) -> None:
    """Raise DataError if values are too few, too many, too rare or too much alike to be learned."""
    if not labels and values.nunique() < 2:
        raise DataError(
            f"{where}: every number is the same; if that is the wrong column, say --label COLUMN"
        )
    if labels and not 2 <= len(labels) <= MAX_LABELS:
        raise DataError(
            f"{where}: {len(labels):,} labels in {len(values):,} good rows, 2 to "
            f"{MAX_LABELS:,} can be learned; if that is the wrong column, say --label COLUMN"
        )
    _require_rows(labels, where)
    if alike := spelling.clashes(list(labels)):
        raise DataError(f"{where}: {'; '.join(alike)}")


def _require_rows(labels: dict[str, int], where: str) -> None:
    rare = [
        f"{extract(label)} ({number})" for label, number in labels.items() if number < FEWEST_ROWS
    ]
    if rare:
        raise DataError(
            f"{where}: {len(rare):,} of {len(labels):,} labels have fewer than {FEWEST_ROWS} "
            f"rows, one for train, validation and test: {', '.join(rare[:5])}; add rows, leave "
            "the label out, or say --label COLUMN"
        )
